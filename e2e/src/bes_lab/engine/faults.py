"""Misbehaviour on command: what an engine may be told to do wrong, and which requests it hits.

Nothing here knows sockets, clocks or generators of its own: instants are passed in, chance comes from a fault's seed.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from bes_api.scenario import Frozen, PositiveInt

LONGEST_SECONDS = 86_400.0
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]


class Target(StrEnum):
    """Pages that a fault hits."""

    REQUESTS = "requests"
    """Completions and chat."""
    HEALTH = "health"
    METRICS = "metrics"
    EVERYTHING = "everything"


class Fault(Frozen):
    """Base of every fault. A fault of the same kind replaces the one before."""

    kind: str
    about: ClassVar[str]
    for_seconds: Seconds | None = None
    """Ends by itself; absent: when it is cleared."""


class Hitting(Fault):
    """A fault that hits single requests."""

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Portion of the requests, drawn by ``seed``."""
    count: PositiveInt | None = None
    """Requests that it hits before it ends by itself; absent: no limit."""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    on: Target = Target.REQUESTS


class Refuse(Fault):
    """The listening socket is closed; ``for_seconds`` brings it back, nothing else can reach the engine then."""

    about = "connections are refused; needs for_seconds"
    kind: Literal["refuse"]
    for_seconds: Seconds


class Loading(Fault):
    """Health page and requests are answered 503, as if the model were loading behind a server that answers."""

    about = "503 on every page, health as the engine words it"
    kind: Literal["loading"]


class FrozenMetrics(Fault):
    """The metrics page stays what it was when this began."""

    about = "the metrics page stays what it was"
    kind: Literal["frozen-metrics"]


class Slow(Fault):
    """Every iteration takes ``factor`` times as long, in the engine's virtual time."""

    about = "iterations take `factor` times as long"
    kind: Literal["slow"]
    factor: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Stall(Hitting):
    """The request is accepted and never answered."""

    about = "accepted and never answered"
    kind: Literal["stall"]


class Busy(Hitting):
    """The request is refused with ``status``, in the engine's own error body."""

    about = "answered with `status` (429 or 5xx; default 503)"
    kind: Literal["busy"]
    status: Literal[429, 500, 502, 503, 504] = 503


class Die(Hitting):
    """The connection is reset after so many bytes of the answer, its head included."""

    about = "reset after `after_bytes` bytes of the answer"
    kind: Literal["die"]
    after_bytes: Annotated[int, Field(ge=0, le=1 << 30)] = 0


class WrongLength(Hitting):
    """The answer (or each chunk of a stream) is said to be ``by`` bytes longer than it is, then the connection ends."""

    about = "content-length (chunk size in a stream) is off by `by` bytes"
    kind: Literal["wrong-length"]
    by: Annotated[int, Field(ge=-(1 << 20), le=1 << 20)] = 100

    @field_validator("by")
    @classmethod
    def _wrong(cls, value: int) -> int:
        if value == 0:
            raise ValueError("must not be 0: that would be the right length")
        return value


class Garbage(Hitting):
    """Random bytes instead of the answer, then the connection ends."""

    about = "`bytes` random bytes instead of an answer"
    kind: Literal["garbage"]
    bytes: Annotated[int, Field(ge=1, le=1 << 20)] = 512


class TwoLengths(Hitting):
    """The answer's head has two different content-lengths."""

    about = "two different content-lengths"
    kind: Literal["two-lengths"]


class LengthAndChunked(Hitting):
    """The answer's head has a content-length and says that it is chunked."""

    about = "content-length beside transfer-encoding: chunked"
    kind: Literal["length-and-chunked"]


KINDS: tuple[type[Fault], ...] = (
    Refuse,
    Stall,
    Busy,
    Die,
    Slow,
    Loading,
    FrozenMetrics,
    WrongLength,
    Garbage,
    TwoLengths,
    LengthAndChunked,
)
AnyFault = Annotated[
    Refuse
    | Stall
    | Busy
    | Die
    | Slow
    | Loading
    | FrozenMetrics
    | WrongLength
    | Garbage
    | TwoLengths
    | LengthAndChunked,
    Field(discriminator="kind"),
]
_FORM: TypeAdapter[AnyFault] = TypeAdapter(AnyFault)


class FaultError(Exception):
    """A command that cannot be read; the text names field, expectation and mend."""


def names() -> tuple[str, ...]:
    """Every kind, as commands write it."""
    return tuple(str(kind.model_json_schema()["properties"]["kind"]["const"]) for kind in KINDS)


def read_fault(command: bytes | str) -> Fault:
    """Parse a command in JSON. Raises FaultError with a line per problem."""
    try:
        return _FORM.validate_json(command)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            tag = isinstance(problem.get("ctx"), dict) and "discriminator" in problem["ctx"]
            where = "kind" if tag else ".".join(map(str, problem["loc"][1:]))
            message = f"expected one of {', '.join(names())}" if tag else problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {message}" if where else message)
        raise FaultError("; ".join(lines)) from None


@dataclass
class _Active:
    fault: Fault
    until: float
    chance: random.Random
    left: float
    hits: int = 0


class ActiveFault(NamedTuple):
    """What is in force, and how many requests it hit."""

    fault: Fault
    hits: int


@dataclass
class Faults:
    """The faults of one engine, in the order in which they were commanded."""

    _active: dict[str, _Active] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._active)

    def begin(self, fault: Fault, now: float) -> None:
        """Put a fault in force."""
        limit = fault.count if isinstance(fault, Hitting) else None
        until = inf if fault.for_seconds is None else now + fault.for_seconds
        seed = fault.seed if isinstance(fault, Hitting) else 0
        self._active[fault.kind] = _Active(fault, until, random.Random(seed), inf if limit is None else limit)

    def clear(self) -> None:
        """End all."""
        self._active.clear()

    def end(self, kind: str) -> None:
        """End the one of that kind, if there is one."""
        self._active.pop(kind, None)

    def has(self, kind: str, now: float) -> bool:
        """Whether a fault that is a state (loading, frozen metrics, slow) is in force."""
        self._expire(now)
        return kind in self._active

    def hit(self, target: Target, now: float) -> Hitting | None:
        """The fault that hits this request, if one does."""
        self._expire(now)
        for active in tuple(self._active.values()):
            fault = active.fault
            if not isinstance(fault, Hitting) or fault.on not in (target, Target.EVERYTHING):
                continue
            if active.chance.random() >= fault.share:
                continue
            active.hits += 1
            active.left -= 1
            if active.left <= 0:
                self.end(fault.kind)
            return fault
        return None

    def in_force(self, now: float) -> tuple[ActiveFault, ...]:
        """What is in force at this instant."""
        self._expire(now)
        return tuple(ActiveFault(active.fault, active.hits) for active in self._active.values())

    def _expire(self, now: float) -> None:
        for kind in [kind for kind, active in self._active.items() if active.until <= now]:
            self.end(kind)
