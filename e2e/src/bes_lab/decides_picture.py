"""One picture of one run: what arrived, what was in flight, which model was chosen, and what was in time."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from bes_api.output import whole_file
from bes_api.scenario import Scenario
from bes_lab.demo import MULTIPLE, Show
from bes_lab.replay.outcomes import Outcomes, per_second

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bes_lab.decides import Decisions

SLOT_SECONDS = 0.25
"""Load is drawn as the median of the decisions in such a slot: it moves by dozens within one."""
COLOURS = ("#9ecae1", "#4292c6", "#084594", "#f16913", "#8c2d04")
"""Of the models in the order in which they are listed: small to large, as people list them."""


def draw(scenario: Scenario, decisions: "Decisions", outcomes: Outcomes, show: Show, path: Path) -> None:
    """Write the picture; every panel has the clip's seconds below it."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    seconds = int(outcomes.time.max(initial=0.0)) + 1
    names = [model.name for model in scenario.models]
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(names))]
    figure, panels = plt.subplots(
        4, 1, figsize=(9, 9), sharex=True, constrained_layout=True, height_ratios=(1.0, 1.0, 1.2, 1.0)
    )
    arrive, load, choices, result = panels
    _arrivals(arrive, outcomes, seconds, show.base_rate)
    arrive.set_title(
        f"{show.clip.name} at {MULTIPLE:g}x base on {len(scenario.gpus)} emulated GPUs, over HTTP", fontsize=11
    )
    _load(load, decisions, seconds, names, colours)
    _choices(choices, decisions, seconds, names, colours)
    _result(result, outcomes, seconds)
    for panel in panels:
        panel.set_xlim(0, seconds)
        panel.grid(axis="y", linewidth=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    result.set_xlabel("second of the clip (a minute of the trace each)")
    figure.align_ylabels(panels)
    with whole_file(path) as picture:
        figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)


def _arrivals(panel: "Axes", outcomes: Outcomes, seconds: int, base_rate: float) -> None:
    at = np.arange(seconds + 1)
    sent = np.asarray(per_second(outcomes, seconds)["requests"])
    panel.stairs(sent, at, fill=True, color="#d9d9d9")
    panel.stairs(sent, at, color="#636363", linewidth=1)
    panel.axhline(base_rate, color="#084594", linewidth=1, linestyle="--")
    panel.annotate(
        f"base {base_rate:.0f}/s: what the largest model alone serves with 99 % in time",
        (0, base_rate), xytext=(3, 3), textcoords="offset points", color="#084594", fontsize=8,
    )  # fmt: skip
    panel.set_ylabel("requests/s\nthat arrive")
    panel.set_ylim(bottom=0)


def _load(panel: "Axes", decisions: "Decisions", seconds: int, names: list[str], colours: list[str]) -> None:
    slot = (decisions.time // SLOT_SECONDS).astype(np.int64)
    slots = np.unique(slot)
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        middle = [np.median(decisions.in_flight[slot == each, index]) for each in slots]
        panel.plot((slots + 0.5) * SLOT_SECONDS, middle, color=colour, linewidth=1.5, label=name)
    panel.set_ylabel("in flight,\nas the router\nbelieves")
    panel.set_ylim(bottom=0)
    panel.set_xlim(0, seconds)


def _choices(panel: "Axes", decisions: "Decisions", seconds: int, names: list[str], colours: list[str]) -> None:
    second = np.minimum(decisions.time.astype(np.int64), seconds - 1)
    total = np.maximum(np.bincount(second, minlength=seconds), 1)
    bottom: NDArray[np.float64] = np.zeros(seconds)
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        share = 100 * np.bincount(second[decisions.model == index], minlength=seconds) / total
        panel.bar(np.arange(seconds) + 0.5, share, 0.92, bottom=bottom, color=colour, label=name)
        bottom += share
    panel.set_ylabel("chosen model,\n% of decisions")
    panel.set_ylim(0, 100)
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=8, ncols=len(names), frameon=False)


def _result(panel: "Axes", outcomes: Outcomes, seconds: int) -> None:
    at = np.arange(seconds) + 0.5
    series = per_second(outcomes, seconds)
    sent, reward, peak = (np.asarray(series[name]) for name in ("requests", "reward", "peak"))
    second = np.minimum(outcomes.time.astype(np.int64), seconds - 1)
    hits = np.bincount(second, outcomes.in_time, minlength=seconds)
    nothing = np.full(seconds, np.nan)
    panel.plot(
        at, 100 * np.divide(hits, sent, out=nothing.copy(), where=sent > 0), color="#636363", label="requests in time"
    )
    panel.plot(
        at, 100 * np.divide(reward, peak, out=nothing, where=peak > 0), color="#238b45", linewidth=2,
        label="quality in time, share of what the best models would give",
    )  # fmt: skip
    panel.set_ylabel("%")
    panel.set_ylim(0, 102)
    panel.legend(loc="lower left", fontsize=8, frameon=False)
