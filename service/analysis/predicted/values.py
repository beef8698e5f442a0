"""Predicted values: against the true ones, their residuals, and a histogram of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.values.mean_absolute_error import MeanAbsoluteError
from core.metrics.values.r2 import R2
from core.metrics.values.root_mean_squared_error import RootMeanSquaredError
from service.analysis.style import BLUE, ORANGE, VERMILION, panels, plain, shortened, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from core import TallyMetric
    from service.analysis.predictions import Predictions

MOST_TARGETS = 4
FEWEST_BINS, MOST_BINS = 10, 40
LONGEST_NAME = 11  # characters
CLEAR_ROWS = 300  # with more, dots are transparent


def draw_values(name: str, found: Predictions) -> Figure:
    """Draw a row of three panels for each target, in its own units.

    If there are too many targets, those with the lowest R² are drawn. ValueError if a prediction is not finite.
    """
    if not np.isfinite(found.scores).all():
        wrong = np.count_nonzero(~np.isfinite(found.scores))
        raise ValueError(f"predictions must be finite; {wrong} of {found.scores.size} are not")
    pairs = [np.stack([found.scores[:, k], found.truth[:, k]]).astype(np.float64) for k in range(len(found.names))]
    scores = [_value(R2(), pair) for pair in pairs]
    shown = np.sort(np.argsort(scores, kind="stable")[:MOST_TARGETS]).tolist()
    among = f", the {len(shown)} of {len(pairs)} targets with the lowest R²" if len(shown) < len(pairs) else ""
    figure, axes = panels(f"{name}: predictions{among} ({found.in_words})", [2.9] * 3, 2.5, rows=len(shown))
    for row, target in enumerate(shown):
        title = plain(shortened(found.names[target], LONGEST_NAME))
        first, second, third = axes[3 * row : 3 * row + 3]
        _draw_pairs(first, pairs[target], f"{title}: R² {scores[target]:.4f}")
        deviation, absolute = (
            _value(metric, pairs[target]) for metric in (RootMeanSquaredError(), MeanAbsoluteError())
        )
        _draw_residuals(second, pairs[target], f"{title}: residuals, RMSE {deviation:.4g}")
        _draw_errors(third, pairs[target], f"{title}: error, MAE {absolute:.4g}")
    return figure


def _value(metric: TallyMetric, pair: NDArray[np.float64]) -> float:
    """Return the metric of one target, from its predictions and true values."""
    predictions, truth = pair[:, :, None]
    sums = np.zeros(metric.tally.columns(1))
    metric.tally.add(np, predictions, truth, sums)
    return metric.value(sums, len(truth))


def _draw_pairs(axes: Axes, pair: NDArray[np.float64], title: str) -> None:
    style_axes(axes, title, "true value", "predicted value")
    _dots(axes, pair[1], pair[0])
    ends = pair.min(), pair.max()
    axes.plot(ends, ends, color="0.3", linestyle="--", linewidth=1, label="predicted = true")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    _number(axes)


def _draw_residuals(axes: Axes, pair: NDArray[np.float64], title: str) -> None:
    style_axes(axes, title, "predicted value", "predicted − true value")
    _dots(axes, pair[0], pair[0] - pair[1])
    axes.axhline(0, color="0.3", linestyle="--", linewidth=1)
    _number(axes)


def _draw_errors(axes: Axes, pair: NDArray[np.float64], title: str) -> None:
    style_axes(axes, title, "predicted − true value", "rows")
    errors = pair[0] - pair[1]
    counts, edges = np.histogram(errors, int(np.clip(len(errors) ** 0.5, FEWEST_BINS, MOST_BINS)))
    axes.stairs(counts, edges, fill=True, color=BLUE)
    # The lines end below the legend.
    axes.axvline(0, ymax=0.72, color="0.3", linestyle="--", linewidth=1)
    axes.axvline(errors.mean(), ymax=0.72, color=ORANGE, label=f"mean {errors.mean():.4g}")
    median = float(np.median(errors))
    axes.axvline(median, ymax=0.72, color=VERMILION, linestyle=":", label=f"median {median:.4g}")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_ylim(0, counts.max() / 0.7)
    _number(axes)


def _dots(axes: Axes, across: NDArray[np.float64], up: NDArray[np.float64]) -> None:
    alpha = float(np.clip(CLEAR_ROWS / len(up), 0.03, 0.7))
    axes.plot(across, up, "o", color=BLUE, markersize=3.5, alpha=alpha, markeredgewidth=0)


def _number(axes: Axes) -> None:
    """Write few numbers, and powers of ten where they are long."""
    axes.locator_params(nbins=5)
    axes.ticklabel_format(style="sci", scilimits=(-3, 4), useMathText=True)
    # The power of ten of the vertical axis stands where the title would be.
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=10, y=1.06)
