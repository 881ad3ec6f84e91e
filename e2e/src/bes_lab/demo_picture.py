"""The demo's one picture: the burst, what each policy delivered in time over it, and the sum as bars."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from bes_api.output import whole_file
from bes_lab.live import LiveRun
from bes_lab.replay.outcomes import per_second

_STATIC_COLOURS = ("#9ecae1", "#4292c6", "#08519c", "#08306b")
_OTHER_COLOURS = ("#31a354", "#fd8d3c", "#756bb1", "#b15928")
_LEARNED = "#d62728"


def draw(runs: Sequence[LiveRun], base_rate: float, title: str, path: Path) -> None:
    """Write the picture of ``runs``, which all had the same arrivals."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    seconds = int(max(run.outcomes.time.max(initial=0.0) for run in runs)) + 1
    at = np.arange(seconds) + 0.5
    colours = _colours(runs)
    figure, (load, quality, bars) = plt.subplots(
        3, 1, figsize=(10, 10), constrained_layout=True, height_ratios=(1.0, 1.8, 0.35 + 0.22 * len(runs))
    )
    sent = per_second(runs[0].outcomes, seconds)["requests"]
    load.fill_between(at, sent, step="mid", color="#d9d9d9")
    load.step(at, sent, where="mid", color="#636363", linewidth=1)
    load.axhline(base_rate, color="#08519c", linewidth=1, linestyle="--")
    load.annotate(
        f"base {base_rate:.0f}/s: what the largest model alone serves with 99 % in time",
        (0, base_rate), xytext=(2, 3), textcoords="offset points", color="#08519c", fontsize=8,
    )  # fmt: skip
    load.set_ylabel("requests/s")
    load.set_ylim(bottom=0)
    load.set_title(title, fontsize=11)
    for run in runs:
        learned = run.contender.name == "Learned"
        quality.plot(
            at, _share(run, seconds), color=colours[run.contender.name], label=run.contender.name,
            linewidth=2.6 if learned else 1.5, zorder=3 if learned else 2,
        )  # fmt: skip
    quality.set_ylabel("quality delivered in time\n(share of peak, per second)")
    quality.set_ylim(0, 1.02)
    quality.legend(loc="lower left", fontsize=8, ncols=2)
    for axis in (load, quality):
        axis.set_xlim(0, seconds)
        axis.grid(axis="y", linewidth=0.3)
    quality.set_xlabel("second of the clip (a minute of the trace each)")
    order = sorted(runs, key=lambda run: run.summary.performance)
    names = [run.contender.name + ("" if run.summary.valid else " (invalid)") for run in order]
    values = [run.summary.performance * 100 for run in order]
    drawn = bars.barh(names, values, color=[colours[run.contender.name] for run in order])
    bars.bar_label(drawn, fmt="%.1f %%", padding=3, fontsize=9)
    bars.set_xlim(0, 109)
    bars.set_xlabel("quality delivered in time, % of peak, whole clip")
    for axis in (load, quality, bars):
        axis.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as picture:
        figure.savefig(picture, dpi=120, format="png")
    plt.close(figure)


def _share(run: LiveRun, seconds: int) -> NDArray[np.float64]:
    series = per_second(run.outcomes, seconds)
    reward, peak = np.asarray(series["reward"]), np.asarray(series["peak"])
    share = np.full(seconds, np.nan)
    np.divide(reward, peak, out=share, where=peak > 0)
    return share


def _colours(runs: Sequence[LiveRun]) -> dict[str, str]:
    names = [run.contender.name for run in runs]
    statics = [name for name in names if name.startswith("Static(")]
    others = [name for name in names if name not in statics and name != "Learned"]
    colours = {name: _STATIC_COLOURS[index % 4] for index, name in enumerate(statics)}
    colours |= {name: _OTHER_COLOURS[index % 4] for index, name in enumerate(others)}
    return {**colours, "Learned": _LEARNED}
