from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import L2, SGD, Constant, Cosine
from core.arrays import BLOCK, aligned_empty

OPTIMIZERS = [
    SGD(lr=0.1),
    SGD(lr=0.1, momentum=0.9),
    SGD(lr=0.37, momentum=0.5, schedule=Cosine()),
]
TOTAL = 7
SIZE = 4321


@patch("core.arrays.BLOCK", 1000)  # so that a short vector has several
def walk(optimizer, dtype, pieces, size=SIZE):
    """Take a few steps with the vectors cut into pieces, and return all vectors."""
    random = np.random.default_rng(0)
    parameters = random.normal(size=size).astype(dtype)
    state = {name: np.zeros(size, dtype) for name in optimizer.slots}
    scratch = np.empty(size, dtype)
    for step in range(3):
        gradients = random.normal(size=size).astype(dtype)
        for piece in pieces:
            L2(1e-3).add_gradient(np, parameters[piece], gradients[piece], scratch[piece])
            slots = {name: slot[piece] for name, slot in state.items()}
            rate = optimizer.learning_rate(step, TOTAL)
            optimizer.update(np, parameters[piece], gradients[piece], slots, rate)
    return [parameters, *state.values()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, SIZE), max_size=8))
def test_cutting_the_vectors_changes_no_bit(optimizer, dtype, cuts):
    edges = [0, *sorted(cuts), SIZE]
    pieces = [slice(start, stop) for start, stop in pairwise(edges)]
    whole = walk(optimizer, dtype, [slice(0, SIZE)])
    for one, other in zip(walk(optimizer, dtype, pieces), whole, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("shift", range(1, 20, 3))
def test_alignment_changes_no_bit(shift):
    optimizer = OPTIMIZERS[1]
    aligned = aligned_empty((1000,), np.float32)
    memory = aligned_empty((1000 + shift,), np.float32)
    shifted = memory[shift:]
    random = np.random.default_rng(shift)
    aligned[...] = shifted[...] = random.normal(size=1000)
    gradients = random.normal(size=1000).astype(np.float32)
    for vector in (aligned, shifted):
        optimizer.update(np, vector, gradients.copy(), {"velocity": np.ones(1000, np.float32)}, 0.1)
    assert aligned.tobytes() == shifted.tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_sgd_is_its_definition_one_number_at_a_time(optimizer):
    size = 50
    random = np.random.default_rng(0)
    w = random.normal(size=size).tolist()
    v = [0.0] * size
    for step in range(3):
        rate = optimizer.learning_rate(step, TOTAL)
        for i, g in enumerate(random.normal(size=size).tolist()):
            v[i] = optimizer.momentum * v[i] + (g + 2 * 1e-3 * w[i])
        w = [wi - rate * vi for wi, vi in zip(w, v, strict=True)]
    parameters, *_ = walk(optimizer, np.float64, [slice(0, size)], size)
    np.testing.assert_allclose(parameters, w, rtol=1e-13)


def test_only_momentum_needs_a_slot():
    assert SGD().slots == ()
    assert SGD(momentum=0.9).slots == ("velocity",)


def test_cosine_goes_from_one_to_zero():
    assert Cosine().factor(0, 10) == 1
    assert Cosine().factor(5, 10) == pytest.approx(0.5, rel=1e-15)
    assert Cosine().factor(10, 10) == 0
    factors = [Cosine().factor(step, 10) for step in range(11)]
    assert factors == sorted(factors, reverse=True)
    # Symmetric about the middle.
    np.testing.assert_allclose(np.add(factors, factors[::-1]), 1, rtol=1e-15)


def test_learning_rate_is_the_product():
    assert SGD(lr=0.25).learning_rate(3, 10) == 0.25
    assert SGD(lr=0.25, schedule=Constant()).learning_rate(9, 10) == 0.25
    assert SGD(lr=0.25, schedule=Cosine()).learning_rate(5, 10) == pytest.approx(0.125, rel=1e-15)


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1])
def test_penalty_adds_up_to_its_definition(size):
    weights = np.random.default_rng(0).normal(size=size).astype(np.float32)
    expected = 0.3 * float(np.longdouble(0) + sum(float(w) ** 2 for w in weights))
    assert L2(0.3).value(np, weights) == pytest.approx(expected, rel=1e-12)
