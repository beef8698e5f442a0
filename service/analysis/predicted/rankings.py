"""ROC curves and precision-recall curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.metrics.labels.average_precision import AveragePrecision
from core.metrics.labels.ranking import positives_at_least
from core.metrics.labels.roc_auc import ROCAUC
from service.analysis.style import BLUE, GREEN, GREY, ORANGE, VERMILION, panels, plain, shortened, style_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from service.analysis.predictions import Predictions

    Numbers = NDArray[np.float64]
    Marks = NDArray[np.bool_]

COLORS = (BLUE, ORANGE, GREEN, VERMILION, GREY)
MOST_LABELS = len(COLORS)
LONGEST_NAME = 18  # characters


def draw_rankings(name: str, found: Predictions) -> Figure | None:
    """Draw both curves of each label; None if there are too many labels.

    With one score for two classes they are those of the second class. ValueError if a score is not finite.
    """
    curves = labels_of(found)
    if len(curves) > MOST_LABELS:
        return None
    if not np.isfinite(found.scores).all():
        raise ValueError("scores must be finite")
    figure, (first, second) = panels(f"{name}: ranking of the rows by score ({found.in_words})", [3.6, 3.6], 3.6)
    style_axes(first, "ROC curve", "false positive rate", "true positive rate")
    style_axes(second, "precision and recall, with average precision (AP)", "recall", "precision")
    first.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1)
    for color, (label, scores, positive) in zip(COLORS, curves, strict=False):
        text = plain(shortened(label, LONGEST_NAME))
        _draw_roc(first, scores, positive, text, color)
        _draw_precision(second, scores, positive, text, color)
    second.plot([], [], color="0.4", linestyle="--", linewidth=1, label="share of the rows")
    first.legend(frameon=False, fontsize=9, loc="lower right")
    second.legend(frameon=False, fontsize=9, loc="lower left")
    for axes in (first, second):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure


def labels_of(found: Predictions) -> list[tuple[str, Numbers, Marks]]:
    """Return name, scores and true rows of each label of a binary or multilabel job, or of both of two classes."""
    scores = found.scores.astype(np.float64)
    if found.task == "multilabel":
        return [(name, scores[:, k], found.truth[:, k] > 0.5) for k, name in enumerate(found.names)]
    if found.task == "binary":
        return [(found.names[1], scores[:, 0], found.truth == 1)]
    # The softmax of two scores grows with their difference.
    lead = scores[:, 1] - scores[:, 0]
    return [(found.names[0], -lead, found.truth == 0), (found.names[1], lead, found.truth == 1)]


def roc(scores: Numbers, positive: Marks) -> tuple[Numbers, Numbers]:
    """Return false and true positive rates from 0 to 1; NaN if no row, or every row, is positive."""
    hits, others = (np.append(0, counts) for counts in positives_at_least(scores, positive))
    with np.errstate(invalid="ignore"):
        return others / others[-1], hits / hits[-1]


def _draw_roc(axes: Axes, scores: Numbers, positive: Marks, name: str, color: str) -> None:
    if positive.all() or not positive.any():
        which = "every row has it" if positive.any() else "no row has it"
        axes.plot([], [], color=color, label=f"no AUC, {which}: {name}")
        return
    area = ROCAUC().value(scores[:, None], positive.astype(np.int64))
    axes.plot(*roc(scores, positive), color=color, linewidth=1.5, label=f"AUC {area:.4f}: {name}")


def _draw_precision(axes: Axes, scores: Numbers, positive: Marks, name: str, color: str) -> None:
    hits, others = positives_at_least(scores, positive)
    average = AveragePrecision().value(scores[:, None], positive.astype(np.int64))
    words = f"AP {average:.4f}" if positive.any() else "no AP, no row has it"
    axes.axhline(positive.mean(), color=color, linestyle="--", linewidth=1)
    if positive.any():
        recall, precision = hits / hits[-1], hits / (hits + others)
        # The precision of each score holds for the recall gained there, as average precision counts it.
        axes.step(np.append(0, recall), np.append(precision[0], precision), color=color, linewidth=1.5, where="pre")
    axes.plot([], [], color=color, label=f"{words}: {name}")
