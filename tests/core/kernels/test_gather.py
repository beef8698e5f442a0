from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import aligned_empty
from core.kernels import gather

DTYPES = (np.uint8, np.float32)


def table(dtype, rows, width, seed):
    random = np.random.default_rng(seed)
    if dtype is np.uint8:
        return random.integers(0, 256, (rows, width), dtype)
    return random.normal(size=(rows, width)).astype(dtype)


def expected(source, rows, scale):
    """Reference in one NumPy expression."""
    values = source[rows].astype(np.float32)
    return values if scale is None else (values - scale[0]) / scale[1]


def check(dtype, width, count, scaled, seed):
    source = table(dtype, 50, width, seed)
    source.flags.writeable = False
    random = np.random.default_rng(seed)
    rows = random.integers(0, 50, count)
    mean, deviation = random.normal(size=(2, width)).astype(np.float32)
    scale = (mean, np.abs(deviation) + np.float32(0.1)) if scaled else None
    for shape in ((width,), (1, width, 1)):  # lists of numbers, or images
        out = aligned_empty((count, *shape), np.float32)
        out.fill(np.nan)
        gather.gather(source, rows, out, scale)
        assert out.tobytes() == expected(source, rows, scale).tobytes()


widths, counts, seeds = st.sampled_from([1, 3, 17, 130]), st.integers(0, 40), st.integers(0, 1000)


@given(st.sampled_from(DTYPES), widths, counts, st.booleans(), seeds, st.sampled_from([1, 100, gather.PIECE]))
def test_numpy_form_is_bitwise_equal_to_the_reference(dtype, width, count, scaled, seed, piece):
    with patch.object(gather, "PIECE", piece):
        check(dtype, width, count, scaled, seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_interpreted_loop_is_bitwise_equal_to_the_reference(dtype, scaled):
    with patch.object(gather, "LARGE", 0), patch.object(gather, "compile_loop", lambda loop: loop):
        check(dtype, 17, 9, scaled, seed=1)


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed: pip install 'gradfleet[fast]'")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_compiled_loop_is_bitwise_equal_to_the_reference(dtype, scaled):
    with patch.object(gather, "LARGE", 0):
        for width in (1, 3, 17, 784):
            check(dtype, width, 23, scaled, seed=2)


def test_only_large_tables_are_compiled():
    compiled = []
    with patch.object(gather, "compile_loop", compiled.append):
        small, large = np.zeros((8, 4), np.uint8), np.zeros((8, 4), np.uint8)
        out = np.ones((2, 4), np.float32)
        for size, source in ((33, small), (32, large)):
            with patch.object(gather, "LARGE", size):
                gather.gather(source, np.array([1, 2]), out)
            assert not out.any(), "without Numba, the NumPy form is used"
    assert len(compiled) == 1
