"""YAML into plain data together with the line of every key and item. Duplicate keys are refused, as in Kubernetes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from bes_api.errors import Problem
from bes_api.location import Location, field_path

MAX_NODES = 100_000  # aliases multiply: a small file can otherwise unfold to any size
MERGE_TAG = "tag:yaml.org,2002:merge"


class UnreadableError(ValueError):
    """Not YAML, or YAML that says one thing twice."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


@dataclass(frozen=True)
class LocatedDocument:
    """One document: plain data, and lines (from 1) by location."""

    data: Any
    lines: Mapping[Location, int]

    def line_of(self, location: Location) -> int | None:
        """The line of ``location``, or of the nearest thing around it that is written down."""
        for end in range(len(location), -1, -1):
            if (line := self.lines.get(location[:end])) is not None:
                return line
        return None


def read_documents(text: str) -> Iterator[LocatedDocument]:
    """Every document that is not empty. Raises UnreadableError with line and mend."""
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            unfolding = _Unfolding(loader)
            data = unfolding.value(node, ())
            if data is not None:
                yield LocatedDocument(data, unfolding.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise _unreadable(f"is not YAML: {reason}", line=mark.line + 1 if mark else None) from error
    except yaml.YAMLError as error:
        raise _unreadable(f"is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise _unreadable("is nested too deeply to be read: flatten it") from error


class _Unfolding:
    """Turns one node tree into data and notes lines on the way."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.lines: dict[Location, int] = {}
        self._loader = loader
        self._nodes = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, location: Location, line: int | None = None) -> Any:
        self.lines[location] = _line(node) if line is None else line
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _unreadable(f"unfolds to more than {MAX_NODES} values: use fewer aliases, or write less", node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        if id(node) in self._open:
            raise _unreadable("an alias contains itself: write the value out", node, location)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, location)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # for example a date that does not exist
            raise _unreadable(f"{node.value!r} cannot be read ({error}): put it in quotes", node, location) from error
        except (AttributeError, LookupError) as error:  # how PyYAML says that a value does not fit its explicit tag
            message = f"{node.value!r} is no {node.tag.rpartition(':')[2]}: remove the tag or write one"
            raise _unreadable(message, node, location) from error

    def _mapping(self, node: yaml.Node, location: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE_TAG:  # first, so that lines of what is written here stand above those of the alias
                merged = self._merge(value_node, location) | merged
        for key_node, value_node in node.value:
            if key_node.tag == MERGE_TAG:
                continue
            key = self._key(key_node, location)
            if key in result:
                raise _unreadable("this key stands here twice: remove one", key_node, (*location, key))
            result[key] = self.value(value_node, (*location, key), _line(key_node))
        return merged | result

    def _key(self, node: yaml.Node, location: Location) -> str:
        key = self._scalar(node, location) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise _unreadable("a key must be a string: put it in quotes", node, location)
        return key

    def _merge(self, node: yaml.Node, location: Location) -> dict[str, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise _unreadable("<< merges mappings only: name one by its alias", node, location)
            merged = self.value(source, location, self.lines[location]) | merged
        return merged


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _unreadable(
    message: str, node: yaml.Node | None = None, location: Location = (), line: int | None = None
) -> UnreadableError:
    return UnreadableError(Problem(field_path(location), message, line if node is None else _line(node)))
