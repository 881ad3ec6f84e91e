"""The simulator's door: a scenario, a workload and a policy in; what became of every request out."""

from collections.abc import Sequence
from functools import cache
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bes_api.scenario import Scenario
from bes_router.policy import blend, candidates, paper
from bes_router.policy import placement as place
from bes_router.policy.catalogue import catalogue_of
from bes_router.policy.layout import Catalogue
from bes_router.policy.tracker import new_tracker
from bes_training.simulation import checks, kernel
from bes_training.simulation.brain import LEARNED, PAPER, Brain
from bes_training.simulation.circumstances import Circumstances, Poll, new_figures
from bes_training.simulation.compiled import compiled
from bes_training.simulation.engines import FINISHED
from bes_training.simulation.scrapes import Figures
from bes_training.simulation.state import EngineState, new_engine_state
from bes_training.workloads.workload import Workload

Float = NDArray[np.float64]
Int = NDArray[np.int64]
KERNEL = "bes_training.simulation.kernel"
NO_PARAMETERS = np.zeros(0)


class Outcomes(NamedTuple):
    """What became of N requests. ``latency`` is NaN where nothing was answered; ``status`` as in `kernel`."""

    time: Float
    task: Int
    model: Int
    engine: Int
    latency: Float
    reward: Float
    peak: Float
    in_time: NDArray[np.bool_]
    status: Int


def arrays_of(catalogue: Catalogue) -> Catalogue:
    """The same catalogue with numpy arrays."""
    return Catalogue._make(_array(values) for values in catalogue)


@cache
def compiled_catalogue(scenario_json: str) -> Catalogue:
    """The array catalogue of a scenario's JSON."""
    return arrays_of(catalogue_of(Scenario.model_validate_json(scenario_json)))


def new_simulation(
    catalogue: Catalogue, workload: Workload, max_in_flight: int, circumstances: Circumstances | None = None
) -> kernel.Simulation:
    """A run at its beginning; ``catalogue`` holds arrays. Raises ValueError where something does not fit it."""
    given = circumstances or Circumstances()
    count = len(workload.time)
    routers = len(given.figures.polls)
    checks.check_figures(given.figures, len(catalogue.engine_model))
    checks.check_workload(catalogue, workload, routers)
    checks.check_deaths(catalogue, given.deaths)
    checks.check_deadline_factor(given.deadline_factor)
    full = np.asarray(catalogue.full_until)[workload.task] * given.deadline_factor
    zero = np.asarray(catalogue.zero_from)[workload.task] * given.deadline_factor
    idle = EngineState._make(_array(values) for values in new_engine_state(catalogue, 1))
    aborts = np.asarray(catalogue.abort)[workload.task] == 1
    expires = np.where(aborts | given.abort_all, workload.time + zero, inf)
    fleet = idle._replace(
        prompt=np.append(workload.prompt_tokens, 0),
        output=np.append(workload.output_tokens, 0),
        abort_at=np.append(expires, inf),
        first_saves=np.append(np.asarray(catalogue.first_token)[workload.task], 0),
        first_at=np.full(count + 1, inf),
        following=np.full(count + 1, -1),
        done=np.zeros(count + 1, dtype=np.int64),
        done_how=np.zeros(count + 1, dtype=np.int64),
    )
    return kernel.Simulation(
        catalogue=catalogue,
        fleet=fleet,
        trackers=_trackers(catalogue, given.figures.polls),
        requests=kernel.Requests(
            workload.time, workload.task, workload.prompt_tokens, workload.output_tokens, workload.router, full, zero
        ),
        outcome=kernel.Outcome(
            np.full(count, -1),
            np.full(count, -1),
            np.full(count, np.nan),
            np.zeros(count),
            np.full(count, kernel.PENDING),
        ),
        figures=new_figures(given.figures, len(catalogue.engine_model)),
        deaths=kernel.Deaths(
            np.array([at for at, _, _ in given.deaths], dtype=np.float64),
            np.array([engine for _, engine, _ in given.deaths], dtype=np.int64),
            np.array([int(ready) for _, _, ready in given.deaths], dtype=np.int64),
            np.zeros(1, dtype=np.int64),
        ),
        max_in_flight=max_in_flight,
    )


def fresh(simulation: kernel.Simulation) -> kernel.Simulation:
    """A copy of a run at its beginning: what a run changes is copied, catalogue and requests are shared."""
    return simulation._replace(
        fleet=EngineState._make(np.array(values) for values in simulation.fleet),
        trackers=blend.Tracker._make(np.array(values) for values in simulation.trackers),
        outcome=kernel.Outcome._make(values.copy() for values in simulation.outcome),
        figures=Figures._make(values.copy() for values in simulation.figures),
        deaths=simulation.deaths._replace(cursor=simulation.deaths.cursor.copy()),
    )


def play(simulation: kernel.Simulation, brain: Brain) -> None:
    """Run to the end, compiled; the simulation holds the outcome."""
    compiled(KERNEL).run(simulation, brain)


def simulate(
    scenario: Scenario, workload: Workload, brain: Brain, circumstances: Circumstances | None = None
) -> Outcomes:
    """What becomes of ``workload`` under a policy."""
    catalogue = compiled_catalogue(scenario.model_dump_json())
    simulation = new_simulation(catalogue, workload, scenario.max_in_flight, circumstances)
    play(simulation, brain)
    return outcomes_of(simulation)


def outcomes_of(simulation: kernel.Simulation) -> Outcomes:
    """The outcome of a finished run."""
    catalogue, requests, outcome = simulation.catalogue, simulation.requests, simulation.outcome
    models = len(catalogue.context)
    quality = np.asarray(catalogue.quality)[requests.task * models + np.maximum(outcome.model, 0)]
    answered = outcome.status == FINISHED
    share = np.where(answered, outcome.share, 0.0)
    return Outcomes(
        time=requests.time,
        task=requests.task,
        model=outcome.model,
        engine=outcome.engine,
        latency=np.where(answered, outcome.finish - requests.time, np.nan),
        reward=share * np.maximum(quality, 0.0),
        peak=np.asarray(catalogue.best_quality)[requests.task],
        in_time=share > 0.0,
        status=outcome.status,
    )


def rule_brain(catalogue: Catalogue, kind: int, placement: int, parameters: Float) -> Brain:
    """A hand-written rule as a brain."""
    checks.check_parameters(catalogue, kind, parameters)
    return _brain(catalogue, kind, parameters)._replace(placement=placement)


def learned_brain(catalogue: Catalogue, base: Float, linear: Float, hidden: Float, bias: Float, out: Float) -> Brain:
    """A scorer as a brain: base rule [2, 15], linear [2, WIDTH], hidden [H * WIDTH], bias [H], out [2, H]."""
    checks.check_scorer(base, linear, hidden, bias, out)
    by_feature = np.ascontiguousarray(hidden.reshape(len(bias), candidates.WIDTH).T).ravel()
    brain = _brain(catalogue, LEARNED, base[0].copy())
    return brain._replace(
        linear=linear[0].copy(),
        hidden=by_feature,
        bias=bias,
        out=out[0].copy(),
        ends=(base.ravel(), linear.ravel(), out.ravel()),
        units=np.zeros(len(bias)),
    )


def paper_brain(catalogue: Catalogue, layers: tuple[Float, Float, Float, Float, Float, Float]) -> Brain:
    """The paper's network as a brain: weights [out * in] and bias of its three layers."""
    checks.check_network(catalogue, layers)
    one, two, three = (np.ascontiguousarray(layers[at].reshape(len(layers[at + 1]), -1).T).ravel() for at in (0, 2, 4))
    brain = _brain(catalogue, PAPER, NO_PARAMETERS)
    return brain._replace(
        layers=(one, layers[1], two, layers[3], three, layers[5]),
        first=np.zeros(len(layers[1])),
        second=np.zeros(len(layers[3])),
        values=np.zeros(len(layers[5])),
    )


def _brain(catalogue: Catalogue, kind: int, parameters: Float) -> Brain:
    rows = candidates.capacity(catalogue)
    none = np.zeros(0)
    return Brain(
        kind=kind,
        placement=place.LEAST_LOADED,
        pruned=1,
        parameters=np.ascontiguousarray(parameters, dtype=np.float64),
        linear=np.zeros(candidates.WIDTH),
        hidden=none,
        bias=none,
        out=none,
        ends=(none, none, none),
        layers=(none, none, none, none, none, none),
        engines=np.zeros(rows, dtype=np.int64),
        scores=np.zeros(rows),
        features=np.zeros(rows * candidates.WIDTH),
        units=none,
        inputs=np.zeros(paper.width_of(catalogue)),
        first=none,
        second=none,
        values=none,
    )


def _trackers(catalogue: Catalogue, polls: Sequence[Poll]) -> blend.Tracker:
    each = [new_tracker(catalogue, 0.0, share=poll.share or 1.0 / len(polls)) for poll in polls]
    return blend.Tracker._make(np.stack([_array(values) for values in field]) for field in zip(*each, strict=True))


def _array(values: object) -> NDArray[np.generic]:
    array = np.array(values)
    return array if array.dtype == np.int64 else array.astype(np.float64)
