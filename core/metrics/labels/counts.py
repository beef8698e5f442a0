"""Predicted labels, and counts of right and wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from core.metrics.base import Sums, Tally

if TYPE_CHECKING:
    from core.arrays import Array, Namespace

Counts: TypeAlias = npt.NDArray[np.int64]


def predict(xp: Namespace, predictions: Array) -> Array:
    """Return what scores (rows, outputs) predict: the labels (rows,) if there is more than one output, int64.

    The label is that of the highest score, and the first of equal ones. Of one output it is 1 if the score is greater
    than 0. As in NumPy's `argmax`, NaN is higher than any number.
    """
    predicted: Array = predictions.argmax(axis=1) if predictions.shape[1] > 1 else xp.greater(predictions[:, 0], 0) * 1
    return predicted


def marks(xp: Namespace, predictions: Array) -> Array:
    """Return which labels a multilabel model predicts, (rows, outputs), bool: those with a score greater than 0."""
    above: Array = xp.greater(predictions, 0)
    return above


class LabelCounts(Tally):
    """For each label, the number of true positives, false negatives, false positives and true negatives.

    Of two classes only label 1 is counted, so that the figures are the same with one score and with two; label 0 has
    only zeros. With more classes the true negatives are not counted, and 0 stands there. So a class that occurs neither
    in the truth nor in the predictions has only zeros.
    """

    def columns(self, outputs: int) -> int:
        return 4 * outputs

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        outputs = predictions.shape[1]
        table = sums.reshape(4, outputs)
        if truth.ndim == 1 and outputs > 2:
            predicted = predict(xp, predictions)
            wrong = xp.not_equal(predicted, truth) * outputs
            rows_of = xp.bincount(truth + wrong, minlength=2 * outputs).reshape(2, outputs)
            predictions_of = xp.bincount(predicted + wrong, minlength=2 * outputs).reshape(2, outputs)
            for index, counts in enumerate((rows_of[0], rows_of[1], predictions_of[1])):
                xp.add(table[index], counts, out=table[index])
            return
        if truth.ndim == 1:
            table = table[:, -1:]
            chosen, is_true = predict(xp, predictions)[:, None], truth[:, None]
        else:
            chosen, is_true = marks(xp, predictions), xp.greater(truth, 0.5)
        for index, (chosen_here, true_here) in enumerate(((True, True), (False, True), (True, False), (False, False))):
            here = xp.equal(chosen, chosen_here) * xp.equal(is_true, true_here)
            xp.add(table[index], xp.count_nonzero(here, axis=0), out=table[index])


def confusion(predictions: npt.NDArray[np.floating], truth: npt.NDArray[Any]) -> Counts:
    """Count the rows of each true and predicted label.

    In classification and binary tasks the result is (classes, classes): row i, column j counts rows of label i for
    which j is predicted. In multilabel tasks it is (labels, 2, 2): for each label, the rows without it and with it.
    These are scikit-learn's `confusion_matrix` and `multilabel_confusion_matrix`.
    """
    if truth.ndim == 2:
        chosen, is_true = marks(np, predictions), truth > 0.5
        return np.stack([_pairs(is_true[:, j], chosen[:, j], 2) for j in range(truth.shape[1])])
    return _pairs(truth, predict(np, predictions), max(predictions.shape[1], 2))


def _pairs(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], labels: int) -> Counts:
    places = truth.astype(np.int64) * labels + predicted
    return np.bincount(places, minlength=labels * labels).reshape(labels, labels)


def per_label(counts: Counts) -> dict[str, npt.NDArray[np.float64] | Counts]:
    """Return precision, recall, F1 and support, which is the number of rows, of each label, from `confusion`.

    A figure whose denominator is 0 is 0. This is scikit-learn's `precision_recall_fscore_support`.
    """
    if counts.ndim == 3:
        hits, actual, predicted = counts[:, 1, 1], counts[:, 1].sum(axis=1), counts[:, :, 1].sum(axis=1)
    else:
        hits, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, actual),
        "f1": ratio(2 * hits, actual + predicted),
        "support": actual,
    }


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return `part / whole`, and 0 where `whole` is 0."""
    ratios: npt.NDArray[np.float64] = np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)
    return ratios


def macro(figures: npt.NDArray[np.float64], table: Sums) -> float:
    """Return the mean of a figure over the labels that occur in `table`, (4, labels) of `LabelCounts`."""
    return float(figures[table.any(axis=0)].mean())
