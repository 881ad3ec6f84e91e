"""An evaluation as pictures. Needs matplotlib (the extra ``lab``); nothing else of this room imports it."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bes_api.comparison import mean_per_workload
from bes_api.report import EvaluationReport
from bes_training.evaluation.figures import RunOutcomes
from bes_training.workloads.suite import Suite
from bes_training.workloads.workload import Workload

# Okabe and Ito's colours: told apart with any colour vision; the comparator is black, dashed.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
COMPARATOR_STYLE = {"color": "black", "linestyle": "--"}


def performance_over_load(report: EvaluationReport, suite: Suite, path: Path, policies: Sequence[str] = ()) -> None:
    """Performance over the load multiple, a panel per family that has multiples, a line per policy (default: all)."""
    families = list(dict.fromkeys(item.family for item in suite.workloads if item.multiple is not None))
    figure = Figure(figsize=(3.2 * len(families), 4.2), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    styles = _styles(report, policies)
    for axes, family in zip(panels, families, strict=True):
        for name, style in styles.items():
            multiples, scores = _curve(report, suite, family, name)
            axes.plot(multiples, scores, marker="o", markersize=3, linewidth=1.3, label=name, **style)
        axes.set_xscale("log")
        ticks = sorted({item.multiple for item in suite.workloads if item.family == family and item.multiple})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(family, fontsize=10)
        _tidy(axes)
    panels[0].set_ylabel("performance, % of peak")
    figure.supxlabel(f"mean load in multiples of base ({report.base_rate:g} requests/s)", fontsize=10)
    _legend(figure, panels[0], "outside upper center")
    figure.savefig(path, dpi=150, format="png")


def learning_curves(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Validation performance over simulated decisions, a line per seed of a learner (best so far)."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for colour, (name, curve) in zip(cycle(COLOURS), curves.items(), strict=False):
        decisions, losses = np.array(curve, dtype=float).T
        axes.plot(decisions / 1e6, 100 * (1 - np.minimum.accumulate(losses)), label=name, color=colour)
    axes.set_xscale("log")
    axes.set_xlabel("decisions, millions")
    axes.set_ylabel("on validation, % of peak (less penalty)")
    _tidy(axes)
    _legend(figure, axes)
    figure.savefig(path, dpi=150, format="png")


def differences(report: EvaluationReport, policies: Sequence[str], path: Path) -> None:
    """Per workload: each policy's performance less the comparator's, in points, sorted by the first policy's."""
    if report.comparator is None:
        raise ValueError("the report names no comparator; evaluate with one to draw differences")
    rule = mean_per_workload(report.outcomes, report.comparator)
    deltas = {}
    for name in policies:
        scores = mean_per_workload(report.outcomes, name)
        deltas[name] = {workload: 100 * (scores[workload] - rule[workload]) for workload in rule}
    first = deltas[policies[0]]
    order = sorted(rule, key=lambda workload: first[workload])
    figure = Figure(figsize=(7.0, 1.4 + 0.19 * len(order)), layout="constrained")
    axes = figure.subplots()
    styles = _styles(report)
    for name in policies:
        axes.plot([deltas[name][each] for each in order], range(len(order)), "o", markersize=4, label=name,
                  color=styles[name]["color"])  # fmt: skip
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(order)), order, fontsize=7)
    axes.set_xlabel(f"points of peak above {report.comparator} (left of 0: below)")
    _tidy(axes)
    _legend(figure, axes)
    figure.savefig(path, dpi=150, format="png")


def burst_over_time(
    workload: Workload,
    runs: Mapping[str, RunOutcomes],
    models: Sequence[str],
    path: Path,
    window_seconds: float = 0.5,
) -> None:
    """One workload over time: arrivals, then per policy which models answered (shares) and what was earned."""
    edges = np.arange(0.0, workload.duration + window_seconds, window_seconds)
    middle = (edges[:-1] + edges[1:]) / 2
    figure = Figure(figsize=(8.0, 1.8 + 1.5 * len(runs)), layout="constrained")
    rate, *panels = figure.subplots(len(runs) + 1, 1, sharex=True, squeeze=False)[:, 0]
    counts = np.histogram(workload.time, edges)[0]
    rate.fill_between(middle, counts / window_seconds, step="mid", color="#999999", linewidth=0)
    rate.set_ylabel("requests/s")
    rate.set_title(workload.id, fontsize=10)
    _tidy(rate)
    for axes, (name, run) in zip(panels, runs.items(), strict=True):
        shares = _model_shares(run, len(models), edges)
        axes.stackplot(middle, shares, labels=models, colors=COLOURS, alpha=0.75, linewidth=0)
        axes.plot(middle, _earned(run, edges), color="black", linewidth=1.4, label="performance")
        axes.set_ylim(0, 100)
        axes.set_ylabel(f"{name}\n%", fontsize=8)
        _tidy(axes)
    panels[-1].set_xlabel("seconds")
    _legend(figure, panels[0])
    figure.savefig(path, dpi=150, format="png")


def _curve(report: EvaluationReport, suite: Suite, family: str, policy: str) -> tuple[list[float], list[float]]:
    """Mean performance (percent) at each multiple of a family, over its workloads of that multiple."""
    scores = mean_per_workload(report.outcomes, policy)
    found: dict[float, list[float]] = {}
    for item in suite.workloads:
        if item.family == family and item.multiple is not None and item.id in scores:
            found.setdefault(item.multiple, []).append(100 * scores[item.id])
    multiples = sorted(found)
    return multiples, [float(np.mean(found[each])) for each in multiples]


def _model_shares(run: RunOutcomes, models: int, edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[object]:
    arrived = np.maximum(np.histogram(run.time, edges)[0], 1)
    return [100 * np.histogram(run.time[run.model == model], edges)[0] / arrived for model in range(models)]


def _earned(run: RunOutcomes, edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> object:
    reward = np.histogram(run.time, edges, weights=run.reward)[0]
    peak = np.histogram(run.time, edges, weights=run.peak)[0]
    return np.where(peak > 0, 100 * reward / np.where(peak > 0, peak, 1), np.nan)


def _styles(report: EvaluationReport, policies: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    names = list(policies or dict.fromkeys(outcome.policy for outcome in report.outcomes))
    lines = ("-", "-.", ":")
    others = [name for name in names if name != report.comparator]
    styles = {
        name: {"color": COLOURS[index % len(COLOURS)], "linestyle": lines[index // len(COLOURS) % len(lines)]}
        for index, name in enumerate(others)
    }
    if report.comparator is not None:
        styles[report.comparator] = COMPARATOR_STYLE
    return styles


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", linewidth=0.3, alpha=0.6)
    axes.tick_params(labelsize=8)


def _legend(
    figure: Figure, axes: Axes, place: Literal["outside lower center", "outside upper center"] = "outside lower center"
) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc=place, ncols=min(4, len(labels)), fontsize=8, frameon=False)
