"""The last decisions, kept small, so that each can be explained when somebody asks. Never prompts.

A decision is kept as what it was taken from; scores and predictions are computed again only when it is asked for.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from bes_api.explanation import EngineWeighed, Explanation
from bes_router.policy.blend import LONG_AGO
from bes_router.policy.contract import Policy, Weighing
from bes_router.policy.layout import Catalogue, Decision, LoadView, RoutingRequest
from bes_router.policy.placement import least_loaded
from bes_router.policy.reward import eligible, reward_share
from bes_router.policy.rules import finish_on

log = logging.getLogger(__name__)

KEPT = 4096


class Setting(NamedTuple):
    """What a configuration's decisions by one policy have in common."""

    catalogue: Catalogue
    policy: Policy
    policy_name: str
    models: Sequence[str]
    tasks: Sequence[str]
    figures_source: str


class Kept(NamedTuple):
    """One decision. Sums over models and GPUs follow from what is here."""

    number: int
    setting: Setting
    request: RoutingRequest
    decision: Decision
    now: float
    arrival: float
    figures_at: float  # on the clock of ``now``; LONG_AGO: none
    retried_from: int  # 0: not a retry
    load: tuple[float, ...]
    ready: tuple[int, ...]
    sent_engine: tuple[float, ...]
    last_engine: tuple[int, ...]
    rate_fast: float
    rate_slow: float
    guessed: float


class DecisionRing:
    """The last `KEPT` decisions of one router, across its configurations. ``boot`` tells its IDs from others'."""

    def __init__(self, boot: str) -> None:
        self._prefix = f"{boot}-"
        self._bytes = self._prefix.encode("ascii")
        self._kept: list[tuple[Any, ...] | None] = [None] * KEPT
        self._number = 0

    def note(
        self,
        setting: Setting,
        request: RoutingRequest,
        view: LoadView,
        decision: Decision,
        *,
        now: float,
        arrival: float,
        figures_at: float,
        retried_from: int = 0,
    ) -> int:
        """Keep a decision, before anything changes the view it was taken from. Returns its number."""
        number = self._number = self._number + 1
        self._kept[
            number % KEPT
        ] = (  # becomes a `Kept` when asked for: naming the fields would take as long as all else
            number,
            setting,
            request,
            decision,
            now,
            arrival,
            figures_at,
            retried_from,
            tuple(view.load),
            tuple(view.ready),
            tuple(view.sent_engine),
            tuple(view.last_engine),
            view.rate_fast,
            view.rate_slow,
            view.guessed,
        )
        return number

    def id_of(self, number: int) -> bytes:
        """The name of decision ``number`` as x-bes-decision says it."""
        return b"%b%d" % (self._bytes, number)

    def explain(self, name: str) -> Explanation | None:
        """What was decided under that name, and from what; None where it is another router's or too long ago."""
        digits = name.removeprefix(self._prefix)
        if digits == name or len(digits) > 18 or not (digits.isascii() and digits.isdigit()):
            return None
        fields = self._kept[int(digits) % KEPT]
        if fields is None or fields[0] != int(digits):
            return None
        return self._explained(Kept(*fields), name)

    def _explained(self, kept: Kept, name: str) -> Explanation:
        setting, request, decision = kept.setting, kept.request, kept.decision
        chosen = decision.engine >= 0
        return Explanation(
            id=name,
            at=time.time() - (time.monotonic() - kept.now),
            task=setting.tasks[request.task],
            policy=setting.policy_name,
            model=setting.models[decision.model] if chosen else None,
            backend=_label(setting, decision.engine) if chosen else None,
            pinned=setting.models[request.pinned] if request.pinned >= 0 else None,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            full_until_seconds=request.full_until - kept.arrival,
            zero_from_seconds=request.zero_from - kept.arrival,
            rate=kept.rate_slow,
            figures_source=setting.figures_source,
            figures_age_seconds=kept.now - kept.figures_at if kept.figures_at > LONG_AGO else None,
            load_guessed=kept.guessed,
            retried_from=self._prefix + str(kept.retried_from) if kept.retried_from else None,
            weighed=_weighed(kept),
        )


def _weighed(kept: Kept) -> tuple[EngineWeighed, ...]:
    setting, request = kept.setting, kept.request
    view = _view(kept)
    catalogue = setting.catalogue
    said = _said(setting.policy, catalogue, request, view, kept.now)
    scores = [
        said.get(model) or (least_loaded(catalogue, view, model), None)
        for model in range(len(setting.models))
        if eligible(catalogue, view, request, model)
    ]
    found = [_one(kept, view, engine, score) for engine, score in scores]
    return tuple(sorted(found, key=lambda each: (each.chosen, each.score or 0.0), reverse=True))


def _said(
    policy: Policy, catalogue: Catalogue, request: RoutingRequest, view: LoadView, now: float
) -> dict[int, tuple[int, float]]:
    """By model what the policy says of it; nothing where it does not weigh, or fails to."""
    if not isinstance(policy, Weighing):
        return {}
    try:
        return {catalogue.engine_model[engine]: (engine, score) for engine, score in policy.weigh(request, view, now)}
    except Exception as error:  # noqa: BLE001 - the seam to code that is not ours: an explanation goes without scores
        log.warning("policy %s failed to weigh: %r", policy.__class__.__name__, error)
        return {}


def _one(kept: Kept, view: LoadView, engine: int, score: float | None) -> EngineWeighed:
    setting, request = kept.setting, kept.request
    catalogue = setting.catalogue
    model = catalogue.engine_model[engine]
    if model == kept.decision.model:
        engine = kept.decision.engine  # one that does not weigh may place by another rule
    quality = catalogue.quality[request.task * len(setting.models) + model]
    finish = finish_on(catalogue, view, request, engine)
    share = reward_share(kept.now + finish, request.full_until, request.zero_from)
    return EngineWeighed(
        model=setting.models[model],
        backend=_label(setting, engine),
        chosen=model == kept.decision.model,
        score=score,
        quality=quality,
        load=view.load[engine],
        predicted_finish_seconds=finish,
        slack_seconds=request.zero_from - kept.now - finish,
        expected_reward=quality * share,
    )


def _label(setting: Setting, engine: int) -> str:
    model = setting.catalogue.engine_model[engine]
    return f"{setting.models[model]}/{engine - setting.catalogue.model_first[model]}"


def _view(kept: Kept) -> LoadView:
    """The view of the decision, its sums made again."""
    catalogue = kept.setting.catalogue
    first = catalogue.model_first
    engines = [range(first[model], first[model + 1]) for model in range(len(catalogue.context))]
    on_gpu: list[list[int]] = [[] for _ in catalogue.interference]
    for engine, gpu in enumerate(catalogue.engine_gpu):
        on_gpu[gpu].append(engine)
    load, ready = kept.load, kept.ready
    return LoadView(
        load,
        [sum(load[engine] for engine in each if ready[engine]) for each in engines],
        [sum(load[engine] for engine in each) for each in on_gpu],
        [sum(min(1.0, load[engine]) for engine in each) for each in on_gpu],
        ready,
        [sum(ready[engine] for engine in each) for each in engines],
        kept.sent_engine,
        [max((kept.sent_engine[engine] for engine in each), default=LONG_AGO) for each in on_gpu],
        kept.last_engine,
        kept.rate_fast,
        kept.rate_slow,
        kept.guessed,
    )
