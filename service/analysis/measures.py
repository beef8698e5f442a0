"""Measures of a classifier's scores: accuracy, margins, confidence, calibration and losses.

Scores are finite numbers (rows, classes) with at least one row and two classes, labels are integers (rows,) in
[0, classes). Everything is computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core import BATCH, Graph, Plan, Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from core import Loss

    Scores = NDArray[np.floating[Any]]
    Labels = NDArray[np.integer[Any]]
    Numbers = NDArray[np.float64]

CALIBRATION_BINS = 15  # as Guo et al. have it


def accuracy(scores: Scores, labels: Labels) -> float:
    """Return the share of rows whose label has the highest score. If scores tie, the first counts."""
    _check(scores, labels)
    return float(np.mean(scores.argmax(axis=1) == labels))


def margins(scores: Scores, labels: Labels) -> Numbers:
    """Return `s_y - max_{j != y} s_j`, (rows,): the score of the label minus the highest other score.

    Source: Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines",
    JMLR 2, 2001.
    """
    _check(scores, labels)
    rows = np.arange(len(scores))
    others = scores.astype(np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    result: Numbers = own - others.max(axis=1)
    return result


def probabilities(scores: Scores) -> Numbers:
    """Return the softmax `exp(s_k) / sum_j exp(s_j)`, (rows, classes), computed without overflow."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    result: Numbers = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


@dataclass(frozen=True)
class Calibration:
    """Accuracy by confidence, the highest probability of a row, in bins of equal width.

    `edges` (bins + 1,), `counts` (bins,), and the means `confidence` and `accuracy` (bins,) of the rows of each bin,
    NaN for an empty bin.
    """

    edges: Numbers
    counts: NDArray[np.int64]
    confidence: Numbers
    accuracy: Numbers

    @property
    def error(self) -> float:
        """The expected calibration error: `sum over bins of count / rows |accuracy - confidence|`."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.sum(self.counts[filled] * gaps) / self.counts.sum())


def calibration(scores: Scores, labels: Labels, bins: int = CALIBRATION_BINS) -> Calibration:
    """Return how well the softmax of the scores agrees with the accuracy. Bins exclude their lower edge.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _check(scores, labels)
    confidence = probabilities(scores).max(axis=1)
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges, confidence, side="left") - 1
    counts = np.bincount(places, minlength=bins)
    right = np.bincount(places, weights=scores.argmax(axis=1) == labels, minlength=bins)
    total = np.bincount(places, weights=confidence, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 gives the NaN of an empty bin
        return Calibration(edges, counts, total / counts, right / counts)


def losses(loss: Loss, scores: Scores, labels: Labels) -> Numbers:
    """Return the loss of each row, (rows,)."""
    _check(scores, labels)
    graph = Graph()
    graph.input("scores", (BATCH, scores.shape[1]))
    graph.input("labels", (BATCH,), integer=True)
    graph.add("loss", loss, "scores", "labels")
    plan = Plan(Program.compile(graph, ["loss"], batch=len(scores), dtype=np.float64, backward=False))
    plan.inputs["scores"][:], plan.inputs["labels"][:] = scores, labels
    plan.forward()
    return plan.value("loss").copy()


def _check(scores: Scores, labels: Labels) -> None:
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            "scores must be of shape (at least 1 row, at least 2 classes) and labels of (rows,), "
            f"not {scores.shape} and {labels.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite; {np.count_nonzero(~np.isfinite(scores))} of {scores.size} are not")
