"""Writes the page of metrics from what a router and an operator show, so that none is missing and none is invented.

``python -m bes_lab.metrics_page`` writes it; a test holds it fresh.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from bes_api.documents import the_service
from bes_api.output import write_whole
from bes_api.router_config import DeadlineAwarePolicy, RouterConfig
from bes_api.scenario_of import scenario_of
from bes_operator.condition_metrics import ConditionMetrics
from bes_operator.metrics import Metrics
from bes_router.delivery import Candidate, Delivered, Delivery, Sources
from bes_router.running import RunningRouter
from bes_router.shadow import ShadowFigures

PAGE = Path("docs/metrics.md")
EXAMPLE = Path("examples/opt-paper.yaml")
OURS = "bes_"


@dataclass(frozen=True)
class Row:
    """One metric as queries name it; a histogram's name is completed by _bucket, _sum or _count."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def router_rows(example: Path) -> list[Row]:
    """Of a router of ``example`` that has a candidate."""
    return asyncio.run(_router_rows(example))


async def _router_rows(example: Path) -> list[Row]:
    delivered = replace(_delivered(example), candidate=Candidate(None, None, "", ShadowFigures()))
    return [_row(family) for family in RunningRouter(delivered).registry().collect() if family.name.startswith(OURS)]


def _delivered(example: Path) -> Delivered:
    service, profiles = the_service(example)
    scenario = scenario_of(service, profiles)
    config = RouterConfig(service=service.name, scenario=scenario, policy=DeadlineAwarePolicy())
    with TemporaryDirectory() as folder:
        file = Path(folder) / "router.json"
        config.write(file)
        return Delivery(Sources(file)).first()


def operator_rows() -> list[Row]:
    """Of an operator."""
    own = [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)]
    rows = [replace(_row(family), labels=tuple(each._labelnames)) for each in own for family in each.describe()]
    return rows + [_row(family) for family in ConditionMetrics(tuple).describe()]


def _row(family: Metric) -> Row:
    """Labels of families without a sample are told by the library under a name of its own alone."""
    labels = tuple(getattr(family, "_labelnames", ()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Row(name, family.type, labels, family.documentation)


def table(rows: Iterable[Row]) -> str:
    """For the page."""
    lines = (
        f"| `{row.name}` | {row.kind} | {', '.join(f'`{label}`' for label in row.labels)} | {row.meaning} |\n"
        for row in rows
    )
    return "| Metric | Kind | Labels | What it is |\n|---|---|---|---|\n" + "".join(lines)


def fresh(root: Path) -> str:
    """The page below ``root`` as it should be."""
    page = (root / PAGE).read_text(encoding="utf-8")
    for name, rows in (("router metrics", router_rows(root / EXAMPLE)), ("operator metrics", operator_rows())):
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", flags=re.DOTALL)
        if not place.search(page):
            raise LookupError(f"{PAGE} has no place <!-- {name} -->")
        content = table(rows)
        page = place.sub(lambda found, content=content: found[1] + content + found[2], page)  # type: ignore[misc]  # bound per table
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page below a root where it is stale."""
    parser = argparse.ArgumentParser(prog="bes_lab.metrics_page", description="Write the page of metrics.")
    parser.add_argument("--root", type=Path, default=Path())
    root = parser.parse_args(arguments).root
    text = fresh(root)
    if text != (root / PAGE).read_text(encoding="utf-8"):
        write_whole(root / PAGE, text)
        sys.stderr.write(f"{PAGE}: rewritten\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
