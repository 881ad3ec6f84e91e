"""What a replay shows: a table for people, JSON for machines, a picture of the run second by second."""

import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bes_api.output import whole_file, write_whole
from bes_api.scenario import Scenario
from bes_lab.clips import Listed
from bes_lab.replay.outcomes import Outcomes, Percentiles, Summary, TaskSummary, per_second

REFRESH_SECONDS = 0.5
"""Of the bar: the generator shares the machine with it."""


@contextmanager
def progress(what: str, seconds: float, console: Console) -> Iterator[None]:
    """A bar that fills in ``seconds``: an open loop ends on time whatever the server does."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn(f"of {seconds:.0f} s"))
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task, began, ended = bar.add_task(what, total=max(seconds, 1e-9)), time.monotonic(), threading.Event()

        def fill() -> None:
            while not ended.wait(REFRESH_SECONDS):
                bar.update(task, completed=time.monotonic() - began)

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def print_summary(summary: Summary, title: str, console: Console) -> None:
    """The run in one table; an invalid one says so, and why, in red."""
    table = Table(title=title, show_header=False, title_justify="left")
    rows = [
        ("requests", f"{summary.requests}  ({_counts(summary.statuses)})"),
        (
            "quality in time",
            f"[bold]{summary.performance:.1%}[/] of peak ({summary.performance_from_send:.1%} from actual send)",
        ),
        ("in time", f"{summary.in_time:.1%}"),
        ("answered by", _counts(summary.models) or "nobody"),
        ("latency, from schedule", _milliseconds(summary.latency)),
        ("latency, from send", _milliseconds(summary.latency_from_send)),
        ("first byte, from send", _milliseconds(summary.first_byte_from_send)),
        ("lateness of sends", _milliseconds(summary.lateness)),
        ("generator", f"{summary.generator_microseconds_per_request:.0f} us CPU per request"),
        (
            "machine",
            f"{summary.machine_load_mean:.0%} of {summary.cores} cores busy, {summary.machine_load_max:.0%} at most",
        ),
        *((f"task {name}", _of_task(task)) for name, task in summary.tasks.items()),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for reason in summary.invalid_because:
        console.print(f"[bold red]INVALID[/]: {reason}")


def _of_task(task: TaskSummary) -> str:
    if not task.requests:
        return "no requests"  # 0 % in time would accuse the server
    return f"{task.performance:.1%} of peak, {task.in_time:.1%} in time, {task.requests} requests"


def print_listed(found: Sequence[Listed], console: Console) -> None:
    """The packaged traces: a table of figures, and below it where each is from."""
    table = Table(title="Packaged traces, as recorded", title_justify="left")
    table.add_column("name", no_wrap=True)
    for column in ("length", "requests", "mean/s", "peak/s", "over"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in found:
        length = f"{each.seconds / 60:.0f} min"
        mean, peak = f"{each.mean_rate:.1f}", f"{each.peak_rate:.1f}"
        table.add_row(each.name, length, f"{each.requests:,}", mean, peak, f"{each.peak_window_seconds:.0f} s")
    console.print(table)
    for each in found:
        console.print(f"[bold]{each.name}[/]: {escape(each.source)}. Licence: {escape(each.licence)}.")


def write_json(document: object, path: Path) -> None:
    """Write JSON, whole or not at all; what is not a number becomes null. Raises OutputError."""
    write_whole(path, to_json(document) + "\n")


def to_json(document: object) -> str:
    """JSON; what is not a number becomes null."""
    return json.dumps(without_nan(document), indent=2)


def without_nan(value: object) -> object:
    """The same document with null in place of NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def draw(scenario: Scenario, outcomes: Outcomes, title: str, path: Path) -> None:
    """Load, quality in time, latency and the models that answered, over the seconds of the schedule."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    seconds = int(outcomes.time.max(initial=0.0)) + 1
    at = np.arange(seconds) + 0.5
    series = per_second(outcomes, seconds)
    figure, (load, quality, latency) = plt.subplots(3, 1, figsize=(9, 7.5), sharex=True, constrained_layout=True)
    second = np.minimum(outcomes.time.astype(np.int64), seconds - 1)
    bottom = np.zeros(seconds)
    for index, model in enumerate(scenario.models):
        answered = np.bincount(second[outcomes.model == index], minlength=seconds)
        load.bar(at, answered, 0.9, bottom=bottom, label=model.name)
        bottom += answered
    load.step(at, series["requests"], where="mid", color="black", linewidth=1, label="sent")
    load.set_ylabel("requests/s")
    load.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=4, frameon=False)
    peak = np.asarray(series["peak"])
    share = np.divide(series["reward"], peak, out=np.full(seconds, np.nan), where=peak > 0)
    quality.plot(at, share, color="tab:green")
    quality.set_ylim(0, 1.02)
    quality.set_ylabel("quality in time\n(share of peak)")
    shown = outcomes.answered
    latency.plot(outcomes.time[shown], outcomes.latency[shown] * 1e3, ".", markersize=2, alpha=0.4)
    latency.set_ylabel("latency from\nschedule, ms")
    latency.set_xlabel("second")
    latency.set_ylim(bottom=0)
    figure.suptitle(title)
    with whole_file(path) as picture:
        figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)


def _counts(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name}: {count} ({count / total:.0%})" for name, count in counts.items())


def _milliseconds(found: Percentiles) -> str:
    if math.isnan(found.p50):
        return "-"
    figures = (("p50", found.p50), ("p90", found.p90), ("p99", found.p99), ("max", found.max))
    return "  ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in figures) + " ms"
