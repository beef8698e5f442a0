"""Local response normalization against Caffe's formula, written as loops over neighbours."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import LRN
from tests.core.fixtures.direct import evaluate


def neighbours(size, region, place, shape):
    """Return the places within `size // 2` of a place, in its pixel or in its channel."""
    row, column, channel = place
    near = [range(max(0, at - size // 2), min(at + size // 2 + 1, end)) for at, end in zip(place, shape, strict=True)]
    if region == "across_channels":
        return [(row, column, each) for each in near[2]]
    return [(*pixel, channel) for pixel in product(*near[:2])]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)),
    size=st.sampled_from([1, 3, 5, 7, 9_999]),
    alpha=st.sampled_from([0, 1e-4, 1, 20.0]),
    beta=st.sampled_from([0, 0.5, 0.75, 2]),
    k=st.sampled_from([0.5, 1, 2]),
    region=st.sampled_from(["across_channels", "within_channel"]),
    seed=st.integers(0, 2**32),
)
def test_every_value_is_divided_by_a_power_of_the_mean_square_around_it(shape, size, alpha, beta, k, region, seed):
    random = np.random.default_rng(seed)
    x, upstream = random.normal(size=(2, *shape))
    value, gradient = evaluate(LRN(size=size, alpha=alpha, beta=beta, k=k, region=region), x, upstream=upstream)
    share = alpha / (size if region == "across_channels" else size**2)
    expected, expected_gradient = np.empty_like(x), np.zeros_like(x)
    for place in product(*map(range, shape[1:])):
        near = neighbours(size, region, place, shape[1:])
        s = k + share * sum(x[:, *each] ** 2 for each in near)
        expected[:, *place] = x[:, *place] / s**beta
        expected_gradient[:, *place] += upstream[:, *place] / s**beta
        for each in near:
            slope = -beta * x[:, *place] * s ** (-beta - 1) * 2 * share * x[:, *each]
            expected_gradient[:, *each] += upstream[:, *place] * slope
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (LRN(), (5, 4), r"lrn needs an input of shape \(batch, height, width, channels\), not \(5, 4\)"),
        (LRN(size=4), (5, 4, 4, 3), r"lrn\.size must be odd, not 4"),
    ],
    ids=str,
)
def test_what_does_not_fit_raises(node, shape, message):
    with pytest.raises(ValueError, match=message):
        node.infer(shape)
