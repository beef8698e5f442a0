"""Measures of scores, compared with hand-computed values and with independent definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core import Hinge, SoftmaxCrossEntropy
from service.analysis.measures import (
    accuracy,
    calibration,
    losses,
    margins,
    probabilities,
)

# The cat, chair and car example of a lecture. Its losses are computed by hand.
SCORES = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
LABELS = np.array([0, 1, 2])


@st.composite
def scores_and_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows, classes = draw(st.integers(1, 30)), draw(st.integers(2, 6))
    numbers = st.floats(-1e3, 1e3, width=32)
    scores = draw(arrays.arrays(np.float32, (rows, classes), elements=numbers))
    return scores, draw(arrays.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))


def test_the_example_of_the_lecture() -> None:
    assert losses(Hinge(), SCORES, LABELS) == pytest.approx([2.9, 0, 12.9])
    assert losses(SoftmaxCrossEntropy(), SCORES, LABELS) == pytest.approx([2.04, 0.08, 6.16], abs=0.005)
    assert margins(SCORES, LABELS) == pytest.approx([-1.9, 2.9, -5.6])
    assert accuracy(SCORES, LABELS) == pytest.approx(1 / 3)


@given(scores_and_labels())
def test_a_margin_is_the_smallest_lead_over_another_class(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = sample
    leads = [
        min(float(row[label]) - float(other) for place, other in enumerate(row) if place != label)
        for row, label in zip(scores, labels, strict=True)
    ]
    assert margins(scores, labels).tolist() == leads


@given(scores_and_labels())
def test_probabilities_give_the_softmax_loss(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = sample
    shares = probabilities(scores)
    own = shares[np.arange(len(labels)), labels]
    assert shares.sum(axis=1) == pytest.approx(1)
    assert own == pytest.approx(np.exp(-losses(SoftmaxCrossEntropy(), scores, labels)), rel=1e-12, abs=1e-300)


def test_calibration_of_a_small_example() -> None:
    # Confidences 0.6 (right), 0.6 (wrong), 0.9 (right), and 0.5 (wrong), which is in the bin below 0.5.
    confidence = np.array([0.6, 0.6, 0.9, 0.5])
    scores = np.log(np.stack([confidence, 1 - confidence], axis=1))
    found = calibration(scores, np.array([0, 1, 0, 1]), bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 1, 2, 0, 0, 1, 0]
    assert found.accuracy[[4, 5, 8]].tolist() == [0, 0.5, 1]
    assert found.confidence[[4, 5, 8]] == pytest.approx([0.5, 0.6, 0.9])
    assert np.isnan(found.accuracy[0])
    assert found.error == pytest.approx((0.5 + 2 * 0.1 + 0.1) / 4)


@given(scores_and_labels(), st.integers(1, 20))
def test_calibration_follows_the_definition_of_the_paper(sample: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    scores, labels = sample
    confidence, right = probabilities(scores).max(axis=1), scores.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    found = calibration(scores, labels, bins)
    assert found.counts.sum() == len(scores)
    assert found.error == pytest.approx(error)


def test_losses_of_rows_far_from_the_boundary() -> None:
    distances = np.array([-3.0, 0, 1, 10, 1000])
    scores, labels = np.stack([np.zeros(5), distances], axis=1), np.zeros(5, int)
    assert losses(Hinge(), scores, labels) == pytest.approx([0, 1, 2, 11, 1001])
    assert losses(Hinge(squared=True), scores, labels) == pytest.approx([0, 1, 4, 121, 1001**2])
    assert losses(SoftmaxCrossEntropy(), scores, labels) == pytest.approx(np.logaddexp(0, distances))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), r"at least 1 row.*not \(0, 3\)"),
        (np.zeros((2, 1)), np.zeros(2, int), r"at least 2 classes.*not \(2, 1\)"),
        (np.zeros((2, 3)), np.zeros(3, int), r"not \(2, 3\) and \(3,\)"),
        (np.array([[0, np.nan], [np.inf, 1]]), np.zeros(2, int), "2 of 4 are not"),
    ],
)
def test_invalid_scores_are_rejected(scores: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration(scores, labels)
