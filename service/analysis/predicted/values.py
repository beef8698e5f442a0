"""Predicted values: against the true ones, their residuals, and a histogram of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.values.mean_absolute_error import MeanAbsoluteError
from core.metrics.values.r2 import R2
from core.metrics.values.root_mean_squared_error import RootMeanSquaredError
from service.analysis.style import BLUE, ORANGE, VERMILION, number_axes, panels, plain, shortened, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from core import TallyMetric
    from service.analysis.predictions import Predictions

MOST_TARGETS = 4
FEWEST_BINS, MOST_BINS = 10, 40
FAR = 8.0  # times the distance of the quartiles
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
    number_axes(axes)


def _draw_residuals(axes: Axes, pair: NDArray[np.float64], title: str) -> None:
    style_axes(axes, title, "predicted value", "predicted − true value")
    _dots(axes, pair[0], pair[0] - pair[1])
    axes.axhline(0, color="0.3", linestyle="--", linewidth=1)
    number_axes(axes)


def _draw_errors(axes: Axes, pair: NDArray[np.float64], title: str) -> None:
    style_axes(axes, title, "predicted − true value", "rows")
    errors = pair[0] - pair[1]
    inside = _inside(errors)
    counts, edges = np.histogram(inside, int(np.clip(len(errors) ** 0.5, FEWEST_BINS, MOST_BINS)))
    axes.stairs(counts, edges, fill=True, color=BLUE)
    # The lines end below the legend.
    axes.axvline(0, ymax=0.64, color="0.3", linestyle="--", linewidth=1)
    axes.axvline(errors.mean(), ymax=0.64, color=ORANGE, label=f"mean {errors.mean():.4g}")
    axes.set_xlim(*_with_space(edges[0], edges[-1]))  # without a mean that outliers move far away
    median = float(np.median(errors))
    axes.axvline(median, ymax=0.64, color=VERMILION, linestyle=":", label=f"median {median:.4g}")
    if beyond := len(errors) - len(inside):
        axes.plot([], [], " ", label=f"{beyond:,} row{'' if beyond == 1 else 's'} beyond")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_ylim(0, counts.max() / 0.62)
    number_axes(axes)


def _inside(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the errors without those that are so far from the others that a few bars would hold all."""
    low, high = np.quantile(errors, (0.25, 0.75))
    reach = FAR * (high - low)
    return errors[(errors >= low - reach) & (errors <= high + reach)] if reach > 0 else errors


def _with_space(low: float, high: float) -> tuple[float, float]:
    space = 0.05 * (high - low)
    return low - space, high + space


def _dots(axes: Axes, across: NDArray[np.float64], up: NDArray[np.float64]) -> None:
    alpha = float(np.clip(CLEAR_ROWS / len(up), 0.03, 0.7))
    axes.plot(across, up, "o", color=BLUE, markersize=3.5, alpha=alpha, markeredgewidth=0)
