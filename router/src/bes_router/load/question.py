"""The one question that a Prometheus is asked: every gauge's value and `timestamp()`, at the same instant.

`timestamp()` means the sample's own instant only on a raw selector, so names, matchers and the join label are
configuration and no expression is. Both are asked in one query: two would see different samples whenever a scrape
lands between them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bes_router.load.board import Target

PART = "bes_part"
"""The label by which the answer's series tell of which metric they are the value or the stamp."""
VALUE, STAMP = "value", "stamp"
MAX_QUERY_BYTES = 6 * 1024
"""Of a query that still lists the engines; a longer one leaves that to the matchers, as servers bound a URL."""
_SPECIAL = frozenset("\\.+*?()|[]{}^$")


@dataclass(frozen=True)
class Question:
    """``query`` as PromQL; ``names[i]`` is what the answer's part `value:i` or `stamp:i` is about."""

    query: str
    names: tuple[str, ...]
    join_label: str
    targets: tuple[Target, ...]


def question_about(targets: Sequence[Target], matchers: Mapping[str, str], join_label: str) -> Question:
    """Ask for every metric of ``targets`` once, for all engines together."""
    names = tuple(dict.fromkeys(name for target in targets for name in _names(target)))
    engines = f"{join_label}=~{_quoted('|'.join(_literal(target.join) for target in targets))}"
    fixed = [f"{label}={_quoted(value)}" for label, value in matchers.items()]
    query = _query(names, ",".join([*fixed, engines]))
    if len(query.encode()) > MAX_QUERY_BYTES:
        query = _query(names, ",".join([*fixed, f'{join_label}!=""']))
    return Question(query, names, join_label, tuple(targets))


def _names(target: Target) -> tuple[str, ...]:
    return target.gauges if target.finished is None else (*target.gauges, target.finished)


def _query(names: Sequence[str], selector: str) -> str:
    parts = []
    for i, name in enumerate(names):
        series = f"{name}{{{selector}}}"
        parts.append(f'label_replace({series},"{PART}","{VALUE}:{i}","","")')
        parts.append(f'label_replace(timestamp({series}),"{PART}","{STAMP}:{i}","","")')
    return " or ".join(parts)


def _literal(text: str) -> str:
    """``text`` as a regular expression that matches nothing else."""
    return "".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in text)


def _quoted(text: str) -> str:
    """``text`` as a string of PromQL, which escapes as Go does."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'
