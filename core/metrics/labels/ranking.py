"""Rows in order of their scores, and means of figures of that order over the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.float64]


def positives_at_least(scores: Numbers, positive: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Count the positive and the other rows with at least each score, from the highest of the distinct scores down."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1)
    hits = np.cumsum(positive[order])[last]
    return hits.astype(np.float64), (last + 1 - hits).astype(np.float64)


def mean_over_labels(
    figure: Callable[[Numbers, npt.NDArray[np.bool_]], float],
    predictions: npt.NDArray[np.floating],
    truth: npt.NDArray[Any],
) -> float:
    """Return a figure of label 1 of two classes, and otherwise the mean over the labels for which it is not NaN.

    In classification each class is ranked by its softmax probability. NaN if a score is NaN, or if no label has one.
    """
    scores = predictions.astype(np.float64)
    if np.isnan(scores).any():
        return np.nan
    if truth.ndim == 2:
        positive = truth > 0.5
    elif scores.shape[1] == 1:
        positive = truth[:, None] == 1
    elif scores.shape[1] == 2:
        # The softmax probability grows with the difference, and is rounded to 1 where that is large.
        positive, scores = truth[:, None] == 1, scores[:, 1:] - scores[:, :1]
    else:
        positive = truth[:, None] == np.arange(scores.shape[1])
        scores = _softmax(scores)
    figures = [figure(scores[:, k], positive[:, k]) for k in range(scores.shape[1])]
    defined = [value for value in figures if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def _softmax(scores: Numbers) -> Numbers:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Numbers = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares
