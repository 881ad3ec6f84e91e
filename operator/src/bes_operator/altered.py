"""Intents that the API server, or a webhook before it, makes something else of: a feature that is off, a policy.

To apply such an intent again in each pass would be a write for nothing, and a quarrel with whoever alters it. It is
applied again when it says something else, or when somebody changed what had been made of it.
"""

import logging
from typing import Any

from bes_operator.compare import must_apply
from bes_operator.manifest import Apply, Key, Manifest, key_of

_log = logging.getLogger(__name__)
_NOT_CONTENT = frozenset({"managedFields", "resourceVersion", "generation"})
"""Of metadata: what every write changes."""


class Altered:
    """Those of one service, since this operator began."""

    def __init__(self) -> None:
        self._known: dict[tuple[Key, str], tuple[Manifest, dict[str, Any]]] = {}

    def applied(self, step: Apply, answer: Manifest) -> None:
        """What an intent came to."""
        key = key_of(step.manifest)
        if not must_apply(step.manifest, answer, step.field_manager):
            self._known.pop((key, step.field_manager), None)
            return
        if (key, step.field_manager) not in self._known:
            _log.warning("%s: the API server does not keep it as applied; it is left so until one of both changes", key)
        self._known[key, step.field_manager] = (step.manifest, _content(answer))

    def stands(self, step: Apply, live: Manifest) -> bool:
        """Whether ``live`` is what this very intent came to before."""
        known = self._known.get((key_of(step.manifest), step.field_manager))
        return known is not None and known == (step.manifest, _content(live))


def _content(live: Manifest) -> dict[str, Any]:
    metadata = {name: value for name, value in live["metadata"].items() if name not in _NOT_CONTENT}
    return {name: value for name, value in live.items() if name != "status"} | {"metadata": metadata}
