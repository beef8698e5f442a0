"""Histograms of margins and confidences, and a reliability diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import Hinge
from core.losses.sigmoid_cross_entropy import SigmoidCrossEntropy
from service.analysis.measures import CALIBRATION_BINS, calibration, margins, probabilities
from service.analysis.style import BLUE, ORANGE, VERMILION, panels, style_axes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from service.analysis.predictions import Predictions

MARGIN_BINS = 40
BELOW_LEGEND = 0.6  # share of the height that bars and lines have
ALONE = 4.5  # inches, width of a single panel


def draw_margins_and_confidence(name: str, spec: Mapping[str, Any], found: Predictions) -> Figure:
    """Draw both histograms, and the accuracy by confidence; of a loss of independent scores, only the margins."""
    loss = spec["loss"]
    if loss["type"] == SigmoidCrossEntropy.type:  # the softmax of its scores says nothing
        figure, (alone,) = panels(f"{name}: margins ({found.in_words})", [ALONE], 2.5)
        _draw_margins(alone, found, None)
        return figure
    figure, (first, second, third) = panels(f"{name}: margins and confidence ({found.in_words})", [2.9] * 3, 2.5)
    _draw_margins(first, found, float(loss["margin"]) if loss["type"] == Hinge.type else None)
    _draw_confidences(second, found)
    _draw_reliability(third, found)
    return figure


def _draw_margins(axes: Axes, found: Predictions, wanted: float | None) -> None:
    """Draw the margins, and that which the loss wants, if it wants one."""
    style_axes(axes, "margins", "score of the true class − best other score", "rows")
    lead, right = margins(found.scores, found.truth), found.predicted == found.truth
    edges = np.histogram_bin_edges(np.append(lead, 0.0 if wanted is None else wanted), MARGIN_BINS)
    _stack(axes, lead[right], lead[~right], edges)
    if wanted is not None:
        label = f"margin of the hinge loss, {wanted:g}"
        axes.axvline(wanted, ymax=BELOW_LEGEND, color="0.2", linestyle="--", linewidth=1.2, label=label)
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _draw_confidences(axes: Axes, found: Predictions) -> None:
    style_axes(axes, "confidence", "softmax of the scores at the predicted class", "rows")
    claimed, right = probabilities(found.scores).max(axis=1), found.predicted == found.truth
    _stack(axes, claimed[right], claimed[~right], np.linspace(0, 1, CALIBRATION_BINS + 1))
    axes.axvline(
        claimed.mean(), ymax=BELOW_LEGEND, color="0.2", linestyle=":", label=f"mean confidence {claimed.mean():.3f}"
    )
    axes.axvline(right.mean(), ymax=BELOW_LEGEND, color=ORANGE, label=f"accuracy {right.mean():.3f}")
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _stack(axes: Axes, right: NDArray[np.float64], wrong: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    """Draw a stacked histogram: correctly classified rows, and misclassified rows on top."""
    below, above = np.histogram(right, edges)[0], np.histogram(wrong, edges)[0]
    axes.stairs(below, edges, fill=True, color=BLUE, label="correct")
    axes.stairs(below + above, edges, baseline=below, fill=True, color=VERMILION, label="wrong")
    axes.set_ylim(0, (below + above).max() / BELOW_LEGEND)


def _draw_reliability(axes: Axes, found: Predictions) -> None:
    bins = calibration(found.scores, found.truth)
    title = f"expected calibration error {bins.error:.4f}"
    style_axes(axes, title, f"confidence, in {len(bins.counts)} bins", "accuracy")
    there = bins.counts > 0
    heights = np.where(there, bins.accuracy, 0)
    axes.stairs(heights, bins.edges, fill=True, color=BLUE, alpha=0.5)
    axes.plot(bins.confidence[there], bins.accuracy[there], "o", color="black", markersize=3, label="mean of a bin")
    axes.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, label="confidence = accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1.3), yticks=np.linspace(0, 1, 6))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
