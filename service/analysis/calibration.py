"""How far a model's confidence can be believed: margins, confidences, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.analysis.predictions import Predictions

BINS = 15


def margins(found: Predictions) -> NDArray[np.float64]:
    """By how much the true class's score leads the best of the others, (n,); negative where that one is predicted."""
    scores, rows = found.scores.astype(np.float64), np.arange(len(found.labels))
    own = scores[rows, found.labels]
    scores[rows, found.labels] = -np.inf
    lead: NDArray[np.float64] = own - scores.max(axis=1)
    return lead


def confidences(found: Predictions) -> NDArray[np.float64]:
    """Softmax of the scores at the predicted class, (n,): what share of certainty the model claims."""
    scores = found.scores.astype(np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    claimed: NDArray[np.float64] = 1 / np.exp(shifted).sum(axis=1)
    return claimed


@dataclass(frozen=True)
class Reliability:
    """Rows by their confidence in `BINS` bins of one width, each open below: counts, mean confidence and accuracy.

    The means of an empty bin are 0.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean over the rows of their bin's |accuracy - confidence|."""
        return float(self.counts @ np.abs(self.accuracy - self.confidence) / self.counts.sum())


def reliability(found: Predictions) -> Reliability:
    """Compare what the model claims with what is so.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    claimed = confidences(found)
    right = found.predicted == found.labels
    places = np.clip(np.ceil(claimed * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    divisor = np.maximum(counts, 1)
    confidence = np.bincount(places, claimed, BINS) / divisor
    accuracy = np.bincount(places, right, BINS) / divisor
    return Reliability(counts, confidence, accuracy)
