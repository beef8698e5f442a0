from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import NormClipping, ValueClipping, registered

EXAMPLES = [NormClipping(limit=1.5), ValueClipping(limit=0.5)]
SIZE = 1000

each_clipping = pytest.mark.parametrize("clipping", EXAMPLES, ids=str)


def clipped(clipping, gradients, pieces=None):
    """Clip each piece by the norm of the whole vector."""
    result, norm = gradients.copy(), float(np.linalg.norm(gradients.astype(np.float64)))
    for piece in pieces or [slice(0, gradients.size)]:
        clipping.clip(np, result[piece], norm)
    return result


def test_examples_cover_every_clipping():
    assert {type(clipping) for clipping in EXAMPLES} == set(registered("clipping").values())


def test_norm_clipping_scales_to_the_limit_and_keeps_the_direction():
    gradients = np.random.default_rng(0).normal(size=SIZE)
    result = clipped(NormClipping(limit=1.5), gradients)
    assert np.linalg.norm(result) == pytest.approx(1.5, rel=1e-14)
    np.testing.assert_allclose(result / gradients, (result / gradients)[0], rtol=1e-14)


@pytest.mark.parametrize("limit", [5.0, 5.001, 1e12])
def test_gradient_within_the_limit_is_unchanged(limit):
    gradients = np.array([3.0, -4.0])
    np.testing.assert_array_equal(clipped(NormClipping(limit=limit), gradients), gradients)


def test_value_clipping_clips_each_element():
    gradients = np.array([-2, -0.5, -0.49, -0.0, 0.3, 0.5, np.nextafter(0.5, 1), 7])
    result = clipped(ValueClipping(limit=0.5), gradients)
    np.testing.assert_array_equal(result, [-0.5, -0.5, -0.49, 0, 0.3, 0.5, 0.5, 0.5])


@each_clipping
def test_zero_and_empty_gradients_are_unchanged(clipping):
    assert not clipped(clipping, np.zeros(5)).any()
    assert clipped(clipping, np.zeros(0)).size == 0


@each_clipping
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(cuts=st.lists(st.integers(0, SIZE), max_size=8))
def test_dividing_the_vector_changes_no_bit(clipping, dtype, cuts):
    gradients = np.random.default_rng(0).normal(size=SIZE).astype(dtype)
    pieces = [slice(*edges) for edges in pairwise([0, *sorted(cuts), SIZE])]
    whole = clipped(clipping, gradients)
    assert whole.dtype == dtype
    assert whole.tobytes() != gradients.tobytes()
    assert clipped(clipping, gradients, pieces).tobytes() == whole.tobytes()
