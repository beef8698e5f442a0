from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.record.selection import Best, Patience, is_better

# Few different values, so that some are equal, and some values that are not finite.
VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 1.25]) | st.floats(), max_size=30)
METRICS = st.sampled_from(["val/loss", "val/hinge", "val/softmax", "val/accuracy"])


def sign(metric: str) -> int:
    """The factor that makes lower values the better ones."""
    return -1 if metric == "val/accuracy" else 1


@given(METRICS, VALUES)
def test_the_best_is_the_first_of_the_best_finite_values(metric: str, values: list[float]) -> None:
    best = Best(metric, np.zeros(2))
    parameters = np.zeros(2)
    for step, value in enumerate(values, start=1):
        parameters[:] = step
        best.offer(value, step, parameters)
    finite = [(sign(metric) * value, step) for step, value in enumerate(values, start=1) if math.isfinite(value)]
    if not finite:
        assert (best.value, best.step) == (None, 0)
        return
    lowest, step = min(finite)
    assert (best.value, best.step) == (sign(metric) * lowest, step)
    assert best.parameters.tolist() == [step, step]


def stale_after(metric: str, values: list[float], min_delta: float) -> int:
    """Epochs since the last improvement, from the list of all values."""
    taken = [index for index, value in enumerate(values) if math.isfinite(value)][:1]
    for index, value in enumerate(values):
        if not taken or index <= taken[-1]:
            continue
        gain = sign(metric) * (values[taken[-1]] - value)
        if math.isfinite(value) and gain > min_delta:
            taken.append(index)
    return len(values) - (taken[-1] + 1 if taken else 0)


# Quarters, whose sums and differences are exact.
QUARTERS = st.integers(-8, 8).map(lambda number: number / 4) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(METRICS, st.lists(QUARTERS, max_size=20), st.integers(1, 5), st.sampled_from([0.0, 0.25, 1.0]))
def test_patience_counts_the_epochs_without_a_better_value(
    metric: str, values: list[float], patience: int, min_delta: float
) -> None:
    waiting = Patience(metric, patience, min_delta)
    assert not waiting.exhausted
    for count, value in enumerate(values, start=1):
        waiting.offer(value)
        assert waiting.stale_epochs == stale_after(metric, values[:count], min_delta)
        assert waiting.exhausted == (waiting.stale_epochs >= patience)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["val/loss", "val/accuracy"])
def test_a_value_that_is_not_finite_is_never_better(metric: str, value: float) -> None:
    assert not is_better(metric, value, None)
    assert not is_better(metric, value, 0.5)


def test_accuracy_goes_up_and_losses_go_down() -> None:
    assert is_better("val/accuracy", 0.6, 0.5)
    assert not is_better("val/accuracy", 0.4, 0.5)
    for loss in ("val/loss", "val/hinge", "val/softmax"):
        assert is_better(loss, 0.4, 0.5)
        assert not is_better(loss, 0.6, 0.5)
        assert not is_better(loss, 0.5, 0.5)
        assert not is_better(loss, 0.25, 0.5, 0.25)
        assert is_better(loss, 0.125, 0.5, 0.25)
