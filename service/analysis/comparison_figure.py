"""A figure that compares losses: by epoch, by their final scores, and over other settings."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from service.analysis.measures import calibration, margins
from service.analysis.style import BLUE, DPI, GREEN, GREY, ORANGE, VERMILION, plain, style_axes
from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from service.analysis.measures import Numbers
    from service.analysis.replica import Replica

COLORS = {"hinge": BLUE, "softmax": ORANGE}
OTHER_COLORS = (GREEN, VERMILION, GREY)  # of other losses, in turn
DASHES = ("-", "--", ":", "-.")  # of the groups of one loss
MARKERS = ("o", "s", "^", "D")
MARGIN_BINS = 40
MARGINS_SHOWN = (0.002, 0.998)  # quantiles; a few outliers would compress the rest
FEWEST_ROWS = 10  # bins with fewer are not drawn
TICK_WIDTH = 22  # characters per line
LEGEND_WIDTH = 100  # characters of all labels in a row
LARGEST_DOT = 120.0  # square points, for a bin with all rows


@dataclass(frozen=True)
class Group:
    """Jobs that differ only in the seed: label, type of loss, and results."""

    label: str
    loss: str
    replicas: Sequence[Replica]


@dataclass(frozen=True)
class Accuracies:
    """Validation accuracies of a loss at one setting, one for each seed."""

    setting: str
    loss: str
    values: Sequence[float]


@dataclass(frozen=True)
class _Look:
    color: str
    dash: str
    marker: str


def draw_comparison(title: str, groups: Sequence[Group], accuracies: Sequence[Accuracies], *, by: str) -> Figure:
    """Draw groups of one or more losses. `by` names what the accuracies vary over: "share of mislabelled rows"."""
    figure = Figure(figsize=(13, 7.8), dpi=DPI, layout="constrained")
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    looks = _looks([group.loss for group in groups])
    courses, ends = figure.subplots(2, 3)
    for axes, name, heading, unit in zip(
        courses,
        ("val/accuracy", "train/active_fraction", "weights/norm"),
        ("validation accuracy", "active: training samples with a non-zero gradient", "norm of the weights"),
        ("share of rows", "share of samples, mean per epoch", "Euclidean norm"),
        strict=True,
    ):
        style_axes(axes, heading, "epoch", unit)
        for group, look in zip(groups, looks, strict=True):
            _draw_course(axes, [replica.course[name] for replica in group.replicas], group.label, look)
    _zoom(courses[0], groups)
    courses[1].set_ylim(0, 1.04)
    courses[2].set_ylim(bottom=0)
    columns = max(1, LEGEND_WIDTH // max(len(group.label) for group in groups))
    figure.legend(handles=courses[0].lines, frameon=False, loc="outside lower center", ncols=min(columns, len(groups)))
    _draw_margins(ends[0], groups, looks)
    _draw_reliability(ends[1], groups, looks)
    _draw_accuracies(ends[2], accuracies, by)
    return figure


def _looks(losses: Sequence[str]) -> list[_Look]:
    """Return the style of each group: the colour depends on the loss, dash and marker on the index within the loss."""
    others = [loss for loss in dict.fromkeys(losses) if loss not in COLORS]
    colors = COLORS | {loss: OTHER_COLORS[place % len(OTHER_COLORS)] for place, loss in enumerate(others)}
    places = [losses[:index].count(loss) for index, loss in enumerate(losses)]
    return [
        _Look(colors[loss], DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)])
        for loss, place in zip(losses, places, strict=True)
    ]


def _draw_course(axes: Axes, courses: Sequence[Numbers], label: str, look: _Look) -> None:
    """Draw the mean over the seeds, and a band of one standard deviation on either side."""
    shortest = min(len(course) for course in courses)  # jobs may have stopped early
    values = np.stack([course[:shortest] for course in courses])
    epochs, mean, spread = np.arange(1, shortest + 1), values.mean(axis=0), deviation(values)
    axes.fill_between(epochs, mean - spread, mean + spread, color=look.color, alpha=0.15, linewidth=0)
    axes.plot(
        epochs, mean, color=look.color, linestyle=look.dash, linewidth=1.5, label=f"{plain(label)} (n = {len(courses)})"
    )


def _zoom(axes: Axes, groups: Sequence[Group]) -> None:
    """Restrict the y axis to values after the first tenth of the epochs, so that the curves can be distinguished."""
    late = [
        course[len(course) // 10 :] for group in groups for course in (r.course["val/accuracy"] for r in group.replicas)
    ]
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if len(values):
        axes.set_ylim(max(0, values.min() - 0.02), min(1.005, values.max() + 0.02))


def _draw_margins(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    style_axes(axes, "final margins", "score of the true class − best other score", "share of validation rows")
    found = [np.concatenate([margins(r.scores, r.labels) for r in group.replicas]) for group in groups]
    least, most = np.quantile(np.concatenate(found), MARGINS_SHOWN)
    edges = np.linspace(min(least, -1), max(most, 2), MARGIN_BINS + 1)
    for values, look in zip(found, looks, strict=True):
        shares = np.histogram(values, edges)[0] / len(values)
        label = f"median {np.median(values):.2f}"
        axes.stairs(shares, edges, color=look.color, linestyle=look.dash, linewidth=1.5, label=label)
    axes.axvline(0, color="0.4", linewidth=1)
    axes.axvline(1, color="0.4", linewidth=1, linestyle=":", label="hinge margin, 1")
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _draw_reliability(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    style_axes(axes, "calibration", f"confidence, in bins of at least {FEWEST_ROWS} rows", "accuracy")
    axes.plot([0, 1], [0, 1], color="0.4", linestyle=":", linewidth=1)
    for group, look in zip(groups, looks, strict=True):
        scores = np.concatenate([replica.scores for replica in group.replicas])
        whole = calibration(scores, np.concatenate([replica.labels for replica in group.replicas]))
        errors = np.array([calibration(replica.scores, replica.labels).error for replica in group.replicas])
        there = whole.counts >= min(FEWEST_ROWS, whole.counts.max())
        x, y, shares = whole.confidence[there], whole.accuracy[there], whole.counts[there] / whole.counts.sum()
        axes.plot(x, y, color=look.color, linestyle=look.dash, linewidth=1.2, label=f"error {written(errors, 3)}")
        axes.scatter(x, y, 8 + LARGEST_DOT * shares, color=look.color, marker=look.marker, alpha=0.8, linewidths=0)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _draw_accuracies(axes: Axes, accuracies: Sequence[Accuracies], by: str) -> None:
    style_axes(axes, "validation accuracy at other settings", "share of rows", plain(by))
    settings = list(dict.fromkeys(each.setting for each in accuracies))
    losses = list(dict.fromkeys(each.loss for each in accuracies))
    for loss, look in zip(losses, _looks(losses), strict=True):
        shift = 0.12 * (2 * losses.index(loss) - len(losses) + 1)
        mine = [each for each in accuracies if each.loss == loss]
        places = np.array([settings.index(each.setting) for each in mine]) + shift
        means = [np.mean(each.values) for each in mine]
        spreads = [deviation(np.array(each.values)) for each in mine]
        axes.errorbar(
            means, places, xerr=spreads, fmt="o", color=look.color, capsize=3, markersize=5, label=plain(loss)
        )
    axes.set_yticks(range(len(settings)), [_tick(setting) for setting in settings], fontsize=8)
    axes.locator_params(axis="x", nbins=6)
    axes.set_ylim(len(settings) - 0.5, -0.5)


def _tick(setting: str) -> str:
    return "\n".join(map(plain, wrap(visible(setting), TICK_WIDTH)))


def deviation(values: Numbers) -> Numbers:
    """Return the sample standard deviation over the first axis; 0 for a single value."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])


def written(values: Numbers, digits: int) -> str:
    """Return mean and sample standard deviation, "0.960 ± 0.004", or the value if there is only one."""
    spread = f" ± {deviation(values):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"
