"""From a client's words (body, header fields) to a request that can be decided: task, pin, deadline, tokens.

`Vocabulary` says what the words of one configuration mean; it knows nothing of connections and changes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bes_api.router_config import RouterConfig
from bes_router.bodies import Asked
from bes_router.errors import Reason, RefusedRequestError
from bes_router.http1 import RequestHead
from bes_router.policy.formula import decode_seconds
from bes_router.policy.layout import Catalogue, RoutingRequest

TASK_FIELD = b"x-bes-task"
DEADLINE_FIELD = b"x-bes-deadline-ms"
LONGEST_DEADLINE_MS = 86_400_000
_DAY_DIGITS = len(str(LONGEST_DEADLINE_MS))


class Words(NamedTuple):
    """A request as the client put it. ``pinned`` is a model or -1; ``deadline_seconds`` 0 means the task's own."""

    asked: Asked
    path: bytes
    task: int
    pinned: int
    deadline_seconds: float


class Vocabulary:
    """What names mean here, and what clients may ask for."""

    def __init__(self, config: RouterConfig, catalogue: Catalogue) -> None:
        scenario = config.scenario
        self._catalogue = catalogue
        self._service = config.service
        self._names = [task.name for task in scenario.tasks]
        self._default = self._names.index(scenario.default_task)
        self._tasks: dict[str | None, int] = {None: self._default, "": self._default, config.service: self._default}
        self._tasks |= {name: index for index, name in enumerate(self._names)}
        self._models = {model.name: index for index, model in enumerate(scenario.models)}
        self._may_pin = config.clients.pin_model
        self._may_loosen = config.clients.deadline == "Any"
        self._side_by_side = [_share_of_a_sequence(catalogue, task) for task in range(len(self._names))]

    @property
    def listed(self) -> list[str]:
        """What a client may write as ``model``, as /v1/models lists it: tasks, and models where one may be pinned."""
        return [*self._names, *(self._models if self._may_pin else ())]

    def read(self, asked: Asked, path: bytes, head: RequestHead) -> Words:
        """Raises RefusedRequestError: 404 for a model that nobody may name, 400 for a bad field."""
        task = self._tasks.get(asked.model)
        if task is not None and not head.own:
            return Words(asked, path, task, -1, 0.0)
        pinned = -1
        if task is None:
            pinned = self._pinned(asked.model or "")
            task = self._default
        own = head.own
        if TASK_FIELD in own:
            named = self._named(own[TASK_FIELD])
            if asked.model in self._names and named != task:
                raise _bad_field(
                    TASK_FIELD, f"names the task {self._names[named]!r} and model the task {asked.model!r}; name one"
                )
            task = named
        if pinned >= 0 and self._catalogue.quality[task * len(self._models) + pinned] < 0.0:
            raise _unknown_model(
                f"the model {asked.model!r} does not serve the task {self._names[task]!r}; name another task in "
                f"{TASK_FIELD.decode()}, or leave the choice of the model to this service"
            )
        deadline = _deadline(own[DEADLINE_FIELD]) if DEADLINE_FIELD in own else 0.0
        if deadline and not self._may_loosen:
            deadline = min(deadline, self._catalogue.zero_from[task])
        return Words(asked, path, task, pinned, deadline)

    def routing(self, words: Words, characters_per_token: float, arrival: float) -> RoutingRequest:
        """What a decision may know of the request; instants are on the clock of ``arrival``.

        A deadline in the head is when the answer is worth nothing any more; the instant until which it is worth
        everything moves in proportion.
        """
        catalogue = self._catalogue
        asked, _, task, pinned, deadline = words
        prompt = asked.counted_tokens + round(asked.characters / characters_per_token) or 1
        output = asked.output_tokens
        if output < 0:
            output = catalogue.output_tokens[task]
        if asked.sequences > 1:
            prompt, output = self._together(asked, task, prompt, output)
        full, zero = catalogue.full_until[task], catalogue.zero_from[task]
        if deadline:
            full, zero = min(deadline, full * deadline / zero), deadline  # a hard one stays hard to the last bit
        return RoutingRequest(task, prompt, output, arrival + full, arrival + zero, pinned)

    def _together(self, asked: Asked, task: int, prompt: int, output: int) -> tuple[int, int]:
        """Tokens of one request that costs about what several sequences side by side do.

        Prompts are read one after the other and add up. Answers share their decode steps, so each further one only
        lengthens them. What counts for a context is the longest sequence: no sum makes a model ineligible.
        """
        catalogue = self._catalogue
        models = len(self._models)
        longest = max(1, round(prompt * asked.longest))
        qualities = catalogue.quality
        fitting = [
            catalogue.context[model]
            for model in range(models)
            if qualities[task * models + model] >= 0.0 and longest + output <= catalogue.context[model]
        ]
        if not fitting:
            return longest, output
        room = min(fitting)
        prompt = min(prompt, room - output)
        stretched = round(output * (1.0 + self._side_by_side[task] * (asked.sequences - 1)))
        return prompt, min(stretched, room - prompt)

    def _pinned(self, name: str) -> int:
        model = self._models.get(name)
        if model is None:
            raise _unknown_model(f"the model {name!r} does not exist here; name a task, or leave model out")
        if not self._may_pin:
            raise _unknown_model(
                f"the model {name!r} does not exist here for clients, the service chooses among its models: name a "
                "task, or leave model out (the resource allows a choice by router.clients.pinModel)"
            )
        return model

    def _named(self, value: bytes) -> int:
        name = value.decode("utf-8", "replace")
        task = self._tasks.get(name) if name else None
        if task is None:
            raise _bad_field(TASK_FIELD, f"names no task: {name!r}; there is {', '.join(self._names)}")
        return task


def unknown_model(name: str) -> RefusedRequestError:
    """A 404 for a model that is not listed."""
    return _unknown_model(f"the model {name!r} does not exist here; name a task, or leave model out")


def _unknown_model(message: str) -> RefusedRequestError:
    return RefusedRequestError(404, Reason.UNKNOWN_MODEL, message, code="model_not_found", param="model")


def _bad_field(name: bytes, message: str) -> RefusedRequestError:
    field = name.decode("ascii")
    return RefusedRequestError(
        400, Reason.BAD_FIELD, f"the header field {field} {message}", code=Reason.BAD_FIELD, param=field
    )


def _deadline(value: bytes) -> float:
    digits = len(value) <= _DAY_DIGITS and value.isdigit()
    if not digits or not 0 < int(value) <= LONGEST_DEADLINE_MS:
        raise _bad_field(
            DEADLINE_FIELD, f"is not a whole number of milliseconds from 1 to {LONGEST_DEADLINE_MS} (one day)"
        )
    return int(value) / 1e3


def _share_of_a_sequence(catalogue: Catalogue, task: int) -> float:
    """How much longer one more sequence makes a decode step, at the task's typical lengths; the mean over models."""
    context = catalogue.prompt_tokens[task] + 0.5 * catalogue.output_tokens[task]
    shares: Sequence[float] = [
        decode_seconds(catalogue, model, 2.0, 2.0 * context) / decode_seconds(catalogue, model, 1.0, context) - 1.0
        for model in range(len(catalogue.context))
    ]
    return sum(shares) / len(shares)
