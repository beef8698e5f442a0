"""A figure that compares losses: by epoch, by their predictions, and over other settings."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from core.metrics.labels.roc_auc import ROCAUC
from service.analysis.measures import calibration, probabilities
from service.analysis.predicted.rankings import roc
from service.analysis.style import (
    BLACK,
    BLUE,
    BROWN,
    DPI,
    GREEN,
    GREY,
    OLIVE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    number_axes,
    plain,
    shortened,
    style_axes,
)
from service.visible_text import visible

Panel = tuple[str, str, str]  # a series, its title and its unit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from matplotlib.axes import Axes

    from core import Task
    from service.analysis.measures import Numbers
    from service.analysis.replica import Replica

COLORS = {"hinge": BLUE, "softmax": ORANGE}
PALETTE = (GREEN, VERMILION, GREY, PURPLE, SKY, BLACK, BROWN, OLIVE, BLUE, ORANGE)  # of other losses, in turn
MOST_LOSSES = len(PALETTE)  # with more, two have the same colour
DASHES = ("-", "--", ":", "-.")  # of the groups of one loss
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")  # of the groups
LARGEST_STEP, WIDEST = 0.24, 0.7  # between the losses at one setting, and of all of them; settings are 1 apart
OF_LABELS = ("train/active_fraction", "active: training samples with a non-zero gradient", "share, mean per epoch")
ERROR, R2 = "val/mean_absolute_error", "val/r2"
OF_VALUES = {
    ERROR: ("validation mean absolute error", "in the targets' own units"),
    R2: ("validation R²", "share of the variance"),
}
MEANS = (ERROR, R2, "val/root_mean_squared_error", "val/mean_squared_error")  # over the targets
OF_WEIGHTS = ("weights/norm", "norm of the weights", "Euclidean norm")
RATES = np.linspace(0, 1, 201)
MARGIN_BINS = 40
MARGINS_SHOWN = (0.002, 0.998)  # quantiles; a few outliers would compress the rest
FEWEST_ROWS = 10  # bins with fewer are not drawn
TICK_WIDTH, LONGEST_TICK = 22, 40  # characters per line, and in all
FEW_SETTINGS = 6  # whose labels have room for two lines
LEGEND_WIDTH = 100  # characters of all labels in a row
LARGEST_DOT = 120.0  # square points, for a bin with all rows


@dataclass(frozen=True)
class Group:
    """Jobs that differ only in the seed: label, type of loss, and results."""

    label: str
    loss: str
    replicas: Sequence[Replica]


@dataclass(frozen=True)
class Values:
    """Values of a metric, of a loss at one setting, one for each seed."""

    setting: str
    loss: str
    values: Sequence[float]


@dataclass(frozen=True)
class _Look:
    color: str
    dash: str
    marker: str


def draw_comparison(title: str, groups: Sequence[Group], values: Sequence[Values], *, metric: str, by: str) -> Figure:
    """Draw groups of one or more losses, and the values of a metric.

    `by` names what the values vary over: "share of mislabelled rows".
    """
    figure = Figure(figsize=(13, 7.8), dpi=DPI, layout="constrained")
    figure.suptitle(plain(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    losses = [group.loss for group in groups]
    losses += dict.fromkeys(each.loss for each in values if each.loss not in losses)
    looks = _looks(losses)
    of_losses = dict(zip(reversed(losses), reversed(looks), strict=True))  # of the first group of each
    looks = looks[: len(groups)]
    tasks = {replica.task for group in groups for replica in group.replicas}
    courses, ends = figure.subplots(2, 3)
    beside = R2 if metric == ERROR else ERROR
    second = (beside, *OF_VALUES[beside]) if "regression" in tasks else OF_LABELS
    shown = _over_targets(((metric, *_words(metric)), second, OF_WEIGHTS), groups)
    for axes, (name, heading, unit) in zip(courses, shown, strict=True):
        style_axes(axes, heading, "epoch", unit)
        for group, look in zip(groups, looks, strict=True):
            _draw_course(axes, group, name, look)
    _zoom(courses[0])
    if "regression" in tasks:
        _zoom(courses[1])
    else:
        courses[1].set_ylim(0, 1.04)
    courses[2].set_ylim(bottom=0)
    columns = max(1, LEGEND_WIDTH // max(len(group.label) for group in groups))
    figure.legend(handles=courses[2].lines, frameon=False, loc="outside lower center", ncols=min(columns, len(groups)))
    _draw_predictions(ends[0], ends[1], groups, looks, tasks)
    _draw_values(ends[2], values, of_losses, metric, by)
    for axes in (*courses, *ends):
        if axes.axison:
            number_axes(axes)
    return figure


def _over_targets(shown: Sequence[Panel], groups: Sequence[Group]) -> Sequence[Panel]:
    """Return the panels with a unit that says which metrics are means over several targets of a regression."""
    replicas = [replica for group in groups for replica in group.replicas if replica.task == "regression"]
    targets = max((replica.truth.shape[1] for replica in replicas), default=1)
    if targets == 1:
        return shown
    unit = f"mean over {targets} targets"
    return [(name, title, unit if name in MEANS else own) for name, title, own in shown]


def _words(metric: str) -> tuple[str, str]:
    """Return title and unit of a metric of the validation rows."""
    name = metric.removeprefix("val/")
    words = {"r2": "R²", "f1": "F1", "root_mean_squared_error": "RMSE"}.get(name, name.replace("_", " "))
    return f"validation {words}", "share of rows" if name == "accuracy" else words


def _draw_predictions(
    first: Axes, second: Axes, groups: Sequence[Group], looks: Sequence[_Look], tasks: Collection[Task]
) -> None:
    """Draw what the predictions of the task have; nothing if values are compared with labels."""
    if tasks == {"regression"}:
        _draw_errors(first, groups, looks)
        _draw_largest_errors(second, groups, looks)
    elif "regression" in tasks:
        first.set_axis_off()
        second.set_axis_off()
    else:
        _draw_margins(first, groups, looks)
        (_draw_reliability if tasks == {"classification"} else _draw_rates)(second, groups, looks)


def _looks(losses: Sequence[str]) -> list[_Look]:
    """Return the style of each group: the colour depends on the loss, and the dash on the index within the loss."""
    colors = {loss: COLORS[loss] for loss in losses if loss in COLORS}
    free = [color for color in PALETTE if color not in colors.values()]
    others = [loss for loss in dict.fromkeys(losses) if loss not in COLORS]
    colors |= {loss: free[place % len(free)] for place, loss in enumerate(others)}
    places = [losses[:index].count(loss) for index, loss in enumerate(losses)]
    return [
        _Look(colors[loss], DASHES[place % len(DASHES)], MARKERS[index % len(MARKERS)])
        for index, (loss, place) in enumerate(zip(losses, places, strict=True))
    ]


def _draw_course(axes: Axes, group: Group, name: str, look: _Look) -> None:
    """Draw the mean over the seeds, and a band of one standard deviation on either side."""
    courses = [replica.course[name] for replica in group.replicas if name in replica.course]
    shortest = min((len(course) for course in courses), default=0)  # jobs may have stopped early
    # A metric of the end of training has no course.
    values = np.stack([course[:shortest] for course in courses]) if courses else np.empty((1, 0))
    epochs, mean, spread = np.arange(1, shortest + 1), values.mean(axis=0), deviation(values)
    axes.fill_between(epochs, mean - spread, mean + spread, color=look.color, alpha=0.15, linewidth=0)
    label = f"{plain(group.label)} (n = {len(group.replicas)})"
    style: dict[str, Any] = {"color": look.color, "linestyle": look.dash, "marker": look.marker}
    axes.plot(epochs, mean, **style, linewidth=1.5, markersize=4, markevery=slice(-1, None), label=label)


def _zoom(axes: Axes) -> None:
    """Restrict the y axis to values after the first tenth of the epochs, so that the curves can be distinguished."""
    courses = [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]
    values = np.concatenate([course[len(course) // 10 :] for course in courses])
    values = values[np.isfinite(values)]
    if len(values):
        space = max(
            0.02 * values.max() if values.min() >= 0 and values.max() <= 1 else 0, 0.1 * (values.max() - values.min())
        )
        low, high = values.min() - space, values.max() + space
        if values.min() >= 0:
            low = max(0, low)
        if space:
            axes.set_ylim(low, min(1.005, high) if values.max() <= 1 else high)


def _draw_margins(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    several = {replica.task == "classification" for group in groups for replica in group.replicas}
    across = {
        (True,): "score of the true class − best other score",
        (False,): "score, with the sign of the true label",
        (False, True): "score of the true class − best other score;\nof one score: with its sign",
    }[tuple(sorted(several))]
    style_axes(axes, "margins", across, "share of validation rows")
    found = [np.concatenate([replica.margins for replica in group.replicas]) for group in groups]
    least, most = np.quantile(np.concatenate(found), MARGINS_SHOWN)
    edges = np.linspace(min(least, -1), max(most, 2), MARGIN_BINS + 1)
    for values, look in zip(found, looks, strict=True):
        shares = np.histogram(values, edges)[0] / len(values)
        label = f"median {np.median(values):.2f}"
        axes.stairs(shares, edges, color=look.color, linestyle=look.dash, linewidth=1.5, label=label)
    axes.axvline(0, color="0.4", linewidth=1)
    axes.axvline(1, color="0.4", linewidth=1, linestyle=":", label="hinge margin, 1")
    # The curves stay below the legend.
    axes.set_ylim(0, axes.get_ylim()[1] * (1.3 + 0.08 * len(groups)))
    axes.legend(frameon=False, fontsize=_font_size(groups), loc="upper right", labelspacing=0.3)


def _font_size(groups: Sequence[Group]) -> float:
    return 9 if len(groups) <= FEW_SETTINGS else 7


def _draw_reliability(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    style_axes(axes, "calibration", f"confidence, in bins of at least {FEWEST_ROWS} rows", "accuracy")
    axes.plot([0, 1], [0, 1], color="0.4", linestyle=":", linewidth=1)
    for group, look in zip(groups, looks, strict=True):
        scores = np.concatenate([replica.scores for replica in group.replicas])
        whole = calibration(scores, np.concatenate([replica.truth for replica in group.replicas]))
        errors = np.array([calibration(replica.scores, replica.truth).error for replica in group.replicas])
        there = whole.counts >= min(FEWEST_ROWS, whole.counts.max())
        x, y, shares = whole.confidence[there], whole.accuracy[there], whole.counts[there] / whole.counts.sum()
        axes.plot(x, y, color=look.color, linestyle=look.dash, linewidth=1.2, label=f"error {written(errors, 3)}")
        axes.scatter(x, y, 8 + LARGEST_DOT * shares, color=look.color, marker=look.marker, alpha=0.8, linewidths=0)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(frameon=False, fontsize=_font_size(groups), loc="lower right", labelspacing=0.3)


def _draw_rates(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    style_axes(axes, "ROC curves, mean over labels and seeds", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color="0.4", linestyle=":", linewidth=1)
    for group, look in zip(groups, looks, strict=True):
        areas = np.array([ROCAUC().value(replica.scores, replica.truth) for replica in group.replicas])
        curves = [curve for replica in group.replicas for curve in _roc_curves(replica)]
        label = f"AUC {written(areas, 3)}"
        if curves:
            mean = np.append(0, np.mean(curves, axis=0))
            axes.plot(np.append(0, RATES), mean, color=look.color, linestyle=look.dash, linewidth=1.5, label=label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(frameon=False, fontsize=_font_size(groups), loc="lower right", labelspacing=0.3)


def _roc_curves(replica: Replica) -> list[Numbers]:
    """Return the true positive rates at `RATES` of each label that some rows have and others do not."""
    scores, truth = replica.scores.astype(np.float64), replica.truth
    if replica.task == "classification":
        scores, truth = probabilities(scores), truth[:, None] == np.arange(scores.shape[1])
    marks = truth.reshape(scores.shape) > 0.5
    return [
        np.interp(RATES, *roc(scores[:, label], marks[:, label]))
        for label in range(scores.shape[1])
        if 0 < np.count_nonzero(marks[:, label]) < len(marks)
    ]


def _draw_errors(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    style_axes(axes, "errors", f"predicted − true value{_of_errors(groups)}", "share of validation rows")
    found = [np.concatenate([replica.errors.ravel() for replica in group.replicas]) for group in groups]
    least, most = np.quantile(np.concatenate(found), MARGINS_SHOWN)
    edges = np.linspace(least, most, MARGIN_BINS + 1)
    for values, look in zip(found, looks, strict=True):
        if least < most:
            shares = np.histogram(values, edges)[0] / len(values)
            label = f"median {np.median(values):.3g}"
            axes.stairs(shares, edges, color=look.color, linestyle=look.dash, linewidth=1.5, label=label)
    axes.axvline(0, color="0.4", linewidth=1)
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _of_errors(groups: Sequence[Group]) -> str:
    several = any(replica.errors.shape[1] > 1 for group in groups for replica in group.replicas)
    return ", in standard deviations of each target" if several else ""


def _draw_largest_errors(axes: Axes, groups: Sequence[Group], looks: Sequence[_Look]) -> None:
    style_axes(axes, f"size of the errors{_of_errors(groups)}", "share of validation rows", "error is at most")
    shares = np.linspace(0, 1, 201)
    for group, look in zip(groups, looks, strict=True):
        sizes = np.stack([np.quantile(np.abs(replica.errors), shares) for replica in group.replicas])
        label = f"median {in_units(sizes[:, 100])}"
        axes.plot(shares, sizes.mean(axis=0), color=look.color, linestyle=look.dash, linewidth=1.5, label=label)
    axes.set(xlim=(0, 1.02), ylim=(0, None))
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_values(axes: Axes, values: Sequence[Values], looks: Mapping[str, _Look], metric: str, by: str) -> None:
    heading, unit = _words(metric)
    style_axes(axes, f"{heading} at other settings", unit, plain(by))
    settings = list(dict.fromkeys(each.setting for each in values))
    losses = list(dict.fromkeys(each.loss for each in values))
    at = {setting: [each.loss for each in values if each.setting == setting] for setting in settings}
    for loss in losses:
        look = looks[loss]
        mine = [each for each in values if each.loss == loss]
        places = [settings.index(each.setting) + _shift(at[each.setting], loss) for each in mine]
        means = [np.mean(each.values) for each in mine]
        spreads = [deviation(np.array(each.values)) for each in mine]
        axes.errorbar(
            means, places, xerr=spreads, fmt=look.marker, color=look.color, capsize=3, markersize=5, label=plain(loss)
        )
    lines = 1 if len(settings) > FEW_SETTINGS else 2
    axes.set_yticks(range(len(settings)), [_tick(setting, lines) for setting in settings], fontsize=8)
    axes.set_ylim(len(settings) - 0.5, -0.5)


def _shift(losses: Sequence[str], loss: str) -> float:
    """Return how far the value of a loss is from the tick of its setting, which has the values of `losses`."""
    step = min(LARGEST_STEP, WIDEST / max(1, len(losses) - 1))
    return step * (losses.index(loss) - (len(losses) - 1) / 2)


def _tick(setting: str, lines: int) -> str:
    """Return a setting in so many lines; on a single line with its beginning and its end, where settings differ."""
    text = visible(setting)
    if lines > 1:
        return "\n".join(map(plain, wrap(shortened(text, LONGEST_TICK), TICK_WIDTH)))
    return plain(text if len(text) <= TICK_WIDTH else f"{text[:7]}…{text[8 - TICK_WIDTH :]}")


def deviation(values: Numbers) -> Numbers:
    """Return the sample standard deviation over the first axis; 0 for a single value."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])


def written(values: Numbers, digits: int) -> str:
    """Return mean and sample standard deviation, "0.960 ± 0.004", or the value if there is only one."""
    spread = f" ± {deviation(values):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def in_units(values: Numbers) -> str:
    """Return mean and sample standard deviation of values of any size, "4.13e-06 ± 2.1e-07"."""
    spread = f" ± {deviation(values):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread}"
