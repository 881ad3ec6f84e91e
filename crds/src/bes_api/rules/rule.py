"""What a rule is: one check said twice, in Python and as CEL, with one message; and how its nodes are found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from bes_api.location import Location
from bes_api.service import BestEffortService

HERE: Location = ()


@dataclass(frozen=True)
class Rule:
    """One rule. It sees each node at each of ``paths`` (``[*]`` = every element), and nothing around it."""

    id: str
    paths: tuple[str, ...]
    message: str
    check: Callable[[Any], Iterable[Location]]
    """Yields where the node breaks the rule, relative to it."""
    cel: str | None
    """The same as CEL over ``self``, true where the rule is kept; None: the list's type (a map by name) says it."""
    field: str | None = None
    """Member of the node that the API server names in its answer; None: the node itself."""


@dataclass(frozen=True)
class Violation:
    """A rule that a service breaks, and where."""

    rule: Rule
    location: Location


def violations_of(rules: Sequence[Rule], service: BestEffortService) -> tuple[Violation, ...]:
    """Everything of ``rules`` that the service breaks, in their order."""
    return tuple(
        Violation(rule, location + relative)
        for rule in rules
        for path in rule.paths
        for location, node in _nodes(service, path)
        for relative in rule.check(node)
    )


def broken(condition: bool, *location: str | int) -> Iterable[Location]:
    """What a check yields: ``location`` where ``condition`` says that the rule is broken there."""
    return (location,) if condition else ()


def exactly_one(*members: object) -> bool:
    """Whether one of a union's members is set."""
    return sum(member is not None for member in members) == 1


def twice(member: str, alias: str) -> Callable[[Sequence[BaseModel]], Iterable[Location]]:
    """The check of a list that is a map by ``member``: yields every element whose value an earlier one has."""

    def check(items: Sequence[BaseModel]) -> Iterable[Location]:
        values = [getattr(item, member) for item in items]
        return ((i, alias) for i, value in enumerate(values) if value in values[:i])

    return check


def _nodes(root: BaseModel, path: str) -> Iterator[tuple[Location, Any]]:
    """Every node at ``path`` with its location; a path through something absent has none."""
    found: list[tuple[Location, Any]] = [(HERE, root)]
    for step in path.split(".") if path else ():
        name = step.removesuffix("[*]")
        children = [((*location, name), _member(node, name)) for location, node in found]
        found = [child for child in children if child[1] is not None]
        if step.endswith("[*]"):
            found = [((*location, i), item) for location, items in found for i, item in enumerate(items)]
    yield from found


def _member(node: BaseModel, alias: str) -> Any:
    for name, field in type(node).model_fields.items():
        if (field.alias or name) == alias:
            return getattr(node, name)
    raise LookupError(f"{type(node).__name__} has no field {alias}")
