"""Many simulations side by side, each advanced from one decision to the next in one compiled call.

A plain module (see `simulation.compiled`): it only puts `kernel`'s own steps in another order of control, so that the
decision itself comes from outside. Credit is exact: a decision's reward is what became of its own request.
"""

from typing import Any, NamedTuple

from bes_router.policy import blend
from bes_router.policy import placement as place
from bes_router.policy.layout import Catalogue, Decision
from bes_router.policy.paper import observe_paper
from bes_router.policy.reward import eligible
from bes_training.simulation import kernel
from bes_training.simulation.scrapes import Figures, tracker_of
from bes_training.simulation.state import EngineState

Array = Any  # numpy arrays; numba types them


class Batch(NamedTuple):
    """B simulations and where each of them stands."""

    simulations: kernel.Simulation  # every array but the catalogue's with a leading dimension [B]
    count: Array  # [B] requests of the workload; the arrays may have room for more
    slot: Array  # [B] the request that awaits its decision; ``count`` when the episode is over
    observation: Array  # [B, W] what is known of it
    allowed: Array  # [B, M] 1 = eligible


class Memory(NamedTuple):
    """The last L decisions of each simulation, as rings: decision number t of simulation b lies at ``[b, t % L]``."""

    observation: Array  # [B, L, W]
    allowed: Array  # [B, L, M]
    action: Array  # [B, L] model
    reward: Array  # [B, L] of the decision's own request, over the best quality of all tasks
    slot: Array  # [B, L]
    last: Array  # [B, L] 1 = the episode ended with this decision
    begun: Array  # [B] the first decision that may be learned from
    made: Array  # [B] decisions so far
    settled: Array  # [B] the decisions before this one have their outcome


def simulation_of(batch: Batch, index: int) -> kernel.Simulation:
    """One of the simulations: views, so that whatever it does shows in the batch."""
    all_of = batch.simulations
    fleet: Any = all_of.fleet  # one dimension more than its type says
    trackers = all_of.trackers
    requests = all_of.requests
    outcome = all_of.outcome
    figures = all_of.figures
    deaths = all_of.deaths
    return kernel.Simulation(
        all_of.catalogue,
        EngineState(
            fleet.prompt[index],
            fleet.output[index],
            fleet.abort_at[index],
            fleet.first_saves[index],
            fleet.first_at[index],
            fleet.following[index],
            fleet.head[index],
            fleet.tail[index],
            fleet.waiting[index],
            fleet.partial[index],
            fleet.batch[index],
            fleet.context_sum[index],
            fleet.kv_used[index],
            fleet.iteration[index],
            fleet.next_end[index],
            fleet.next_abort[index],
            fleet.decoding[index],
            fleet.due[index],
            fleet.prefill_count[index],
            fleet.prefill[index],
            fleet.running[index],
            fleet.ends[index],
            fleet.clock[index],
            fleet.at[index],
            fleet.busy[index],
            fleet.next[index],
            fleet.done[index],
            fleet.done_how[index],
            fleet.done_count[index],
        ),
        blend.Tracker(
            trackers.own[index],
            trackers.own_model[index],
            trackers.ended[index],
            trackers.others[index],
            trackers.known[index],
            trackers.figure_at[index],
            trackers.load[index],
            trackers.model_load[index],
            trackers.gpu_load[index],
            trackers.gpu_busy[index],
            trackers.ready[index],
            trackers.ready_count[index],
            trackers.sent_engine[index],
            trackers.sent_gpu[index],
            trackers.last_engine[index],
            trackers.scalars[index],
        ),
        kernel.Requests(
            requests.time[index],
            requests.task[index],
            requests.prompt[index],
            requests.output[index],
            requests.router[index],
            requests.full[index],
            requests.zero[index],
        ),
        kernel.Outcome(
            outcome.model[index],
            outcome.engine[index],
            outcome.finish[index],
            outcome.share[index],
            outcome.status[index],
        ),
        Figures(
            figures.live[index],
            figures.counted[index],
            figures.interval[index],
            figures.outage[index],
            figures.every[index],
            figures.delay[index],
            figures.lag[index],
            figures.next[index],
            figures.scrape_at[index],
            figures.sample_at[index],
            figures.poll_at[index],
            figures.answer_at[index],
            figures.ended[index],
            figures.scraped[index],
            figures.sample[index],
            figures.answer[index],
            figures.taken[index],
        ),
        kernel.Deaths(deaths.time[index], deaths.engine[index], deaths.ready[index], deaths.cursor[index]),
        all_of.max_in_flight,
    )


def seek(simulation: kernel.Simulation, start: int, count: int, observation: Array, allowed: Array) -> int:
    """Advance to the next request from ``start`` on that a model may serve, write what is known of it and return it.

    Where none of the ``count`` requests is left, let everything in flight end and return ``count``.
    """
    catalogue = simulation.catalogue
    slot = start
    while slot < count:
        if kernel.arrive(simulation, slot):
            request = kernel.request_of(simulation, slot)
            view = kernel.look(simulation, simulation.requests.router[slot], simulation.requests.time[slot])
            choices = 0
            for model in range(len(catalogue.context)):
                able = eligible(catalogue, view, request, model)
                allowed[model] = 1 if able else 0
                choices += 1 if able else 0
            if choices > 0:
                observe_paper(catalogue, view, request, observation)
                return slot
            kernel.dispatch(simulation, slot, Decision(-1, -1))
        slot += 1
    kernel.finish_all(simulation)
    return slot


def decide(simulation: kernel.Simulation, slot: int, model: int) -> None:
    """Send the awaiting request to the least loaded engine of ``model``, as the router would."""
    tracker = tracker_of(simulation.trackers, simulation.requests.router[slot])
    view = blend.view_of(tracker, simulation.requests.time[slot])
    engine = place.least_loaded(simulation.catalogue, view, model)
    kernel.dispatch(simulation, slot, Decision(model, engine))


def remember(memory: Memory, index: int, slot: int, model: int, observation: Array, allowed: Array) -> None:
    """Write the decision that is about to be made into the ring."""
    at = memory.made[index] % memory.action.shape[1]
    for feature in range(len(observation)):
        memory.observation[index, at, feature] = observation[feature]
    for other in range(len(allowed)):
        memory.allowed[index, at, other] = allowed[other]
    memory.action[index, at] = model
    memory.slot[index, at] = slot
    memory.last[index, at] = 0
    memory.made[index] += 1


def credit(memory: Memory, index: int, catalogue: Catalogue, task: Array, outcome: kernel.Outcome) -> None:
    """Fill in the rewards of decisions whose requests have ended, in order."""
    best = 0.0
    for each in range(len(catalogue.best_quality)):
        best = max(best, catalogue.best_quality[each])
    while memory.settled[index] < memory.made[index]:
        at = memory.settled[index] % memory.action.shape[1]
        slot = memory.slot[index, at]
        if outcome.status[slot] == kernel.PENDING:
            return
        quality = catalogue.quality[task[slot] * len(catalogue.context) + memory.action[index, at]]
        memory.reward[index, at] = outcome.share[slot] * quality / best if best > 0.0 else 0.0
        memory.settled[index] += 1


def begin(batch: Batch, index: int) -> None:
    """Bring a simulation to its first decision."""
    simulation = simulation_of(batch, index)
    batch.slot[index] = seek(simulation, 0, batch.count[index], batch.observation[index], batch.allowed[index])


def decide_all(batch: Batch, memory: Memory, models: Array) -> int:
    """Make and remember one decision in every simulation that awaits one; returns how many await the next."""
    awaiting = 0
    for index in range(len(batch.slot)):
        slot = batch.slot[index]
        count = batch.count[index]
        if slot >= count:
            continue
        simulation = simulation_of(batch, index)
        observation = batch.observation[index]
        allowed = batch.allowed[index]
        remember(memory, index, slot, models[index], observation, allowed)
        decide(simulation, slot, models[index])
        following = seek(simulation, slot + 1, count, observation, allowed)
        batch.slot[index] = following
        credit(memory, index, simulation.catalogue, simulation.requests.task, simulation.outcome)
        if following < count:
            awaiting += 1
        else:
            memory.last[index, (memory.made[index] - 1) % memory.action.shape[1]] = 1
    return awaiting
