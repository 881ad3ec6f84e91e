"""Policies of one's own: an installed package names them among the entry points ``best_effort_serving.policies``.

A configuration can name what is installed and nothing else, so it can never make a router run code from a file.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from bes_api.scenario import Scenario
from bes_router.policy.contract import Policy
from bes_router.policy.errors import OwnPolicyError
from bes_router.policy.layout import Catalogue

GROUP = "best_effort_serving.policies"

Factory = Callable[[Scenario, Catalogue], Policy]
"""What an entry point names: it makes the policy for one service."""


def installed() -> dict[str, EntryPoint]:
    """Policies by name; of two of the same name the first on the path."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def load(name: str, scenario: Scenario, catalogue: Catalogue) -> Policy:
    """The policy of that name, made for ``scenario``. Raises OwnPolicyError."""
    found = installed()
    if name not in found:
        known = ", ".join(found) or "none"
        raise OwnPolicyError(f"no policy {name!r} is installed (there is {known}); install its package beside bes")
    try:
        policy = cast(Factory, found[name].load())(scenario, catalogue)
    except Exception as error:  # the seam to somebody's code: a router starts without it
        raise OwnPolicyError(f"policy {name} ({found[name].value}) cannot be made: {error!r}") from error
    if not callable(getattr(policy, "choose", None)) or not isinstance(getattr(policy, "name", None), str):
        raise OwnPolicyError(f"policy {name} ({found[name].value}): expected an object with a name and choose()")
    return policy
