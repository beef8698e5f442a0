from importlib.util import find_spec
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import SGD, Adam, AdamW, Step
from core.arrays import BLOCK
from core.kernels import fused

needs_numba = pytest.mark.skipif(
    find_spec("numba") is None, reason="Numba is not installed: pip install 'gradfleet[fast]'"
)
OPTIMIZERS = pytest.mark.parametrize(
    "optimizer", [SGD(momentum=0.9), Adam(), AdamW(weight_decay=0.1)], ids=lambda optimizer: optimizer.type
)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class Vectors:
    """Parameters and optimizer slots after three steps, each applied slice by slice."""

    def __init__(self, optimizer, dtype, size, cuts=(), seed=0):
        random = np.random.default_rng(seed)
        self.parameters = random.normal(size=size).astype(dtype)
        self.state = {slot: np.zeros(size, dtype) for slot in optimizer.slots}
        edges = [0, *sorted(min(cut, size) for cut in cuts), size]
        for step in range(1, 4):
            # The gradients have many magnitudes, including subnormal numbers.
            gradients = (random.normal(size=size) * 10.0 ** random.integers(-25, 5, size)).astype(dtype)
            for start, stop in pairwise(edges):
                part = slice(start, stop)
                optimizer.update(
                    np,
                    self.parameters[part],
                    gradients[part],
                    {slot: vector[part] for slot, vector in self.state.items()},
                    np.empty(BLOCK, dtype),
                    Step(0.01, step),
                    [(0, stop - start)],
                )

    def bits(self):
        return [array.tobytes() for array in (self.parameters, *self.state.values())]


def numpy_form(*arguments, **options):
    with patch.object(fused, "compile_loop", lambda _: None):
        return Vectors(*arguments, **options)


@OPTIMIZERS
@DTYPES
def test_interpreted_loop_is_bitwise_equal_to_numpy(optimizer, dtype):
    calls = []

    def interpreted(loop):
        calls.append(loop)
        return loop

    with patch.object(fused, "compile_loop", interpreted), patch.object(fused, "SHORTEST", 0):
        one = Vectors(optimizer, dtype, 300)
    assert calls, "the loop was not used"
    assert one.bits() == numpy_form(optimizer, dtype, 300).bits()


@needs_numba
@OPTIMIZERS
@DTYPES
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=4), seed=st.integers(0, 100))
def test_compiled_loop_on_slices_is_bitwise_equal_to_numpy(optimizer, dtype, cuts, seed):
    with patch.object(fused, "SHORTEST", 0):
        compiled = Vectors(optimizer, dtype, 3001, cuts, seed)
    assert compiled.bits() == numpy_form(optimizer, dtype, 3001, seed=seed).bits()


@needs_numba
def test_long_vectors_are_compiled_and_short_ones_are_not():
    taken = []

    def scale(vector, factors):
        (factor,) = factors
        for i in range(vector.size):
            vector[i] *= factor

    for size in (fused.SHORTEST - 1, fused.SHORTEST):
        vector = np.ones(size, np.float32)
        taken.append(fused.run_fused(np, scale, (vector,), (3.0,)))
        assert vector[-1] == (3 if taken[-1] else 1)
    assert taken == [False, True]


def test_returns_false_without_numba():
    def never(_):
        raise AssertionError

    with patch.object(fused, "compile_loop", lambda _: None):
        assert not fused.run_fused(np, never, (np.ones(fused.SHORTEST),), ())
