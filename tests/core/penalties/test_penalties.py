from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import L1, L2, ElasticNet, Linear, ParameterLayout, build_classifier, registered
from core.arrays import BLOCK
from tests.core.fixtures.memory import peak_growth

PENALTIES = [L1(0.3), L2(0.3), L2(0.0), ElasticNet(l1=0.2, l2=0.7), ElasticNet(l1=0.2), ElasticNet(l2=0.7)]
SIZE = 4321

each_penalty = pytest.mark.parametrize("penalty", PENALTIES, ids=str)


def factors(penalty):
    match penalty:
        case L1(weight=weight):
            return weight, 0.0
        case L2(weight=weight):
            return 0.0, weight
        case ElasticNet(l1=l1, l2=l2):
            return l1, l2


def test_examples_cover_every_penalty():
    assert {type(penalty) for penalty in PENALTIES} == set(registered("penalty").values())


def gradient_of(penalty, parameters, pieces=None, start=None):
    gradients = np.zeros_like(parameters) if start is None else start.copy()
    scratch = np.full(parameters.size, np.nan, parameters.dtype)
    for piece in pieces or [slice(0, parameters.size)]:
        penalty.add_gradient(np, parameters[piece], gradients[piece], scratch)
    return gradients


@each_penalty
@pytest.mark.parametrize("size", [0, 1, 8_191, 8_192, 8_193, BLOCK + 1])
def test_value_against_the_definition_in_float64(penalty, size):
    weights = np.random.default_rng(0).normal(size=size).astype(np.float32)
    l1, l2 = factors(penalty)
    expected = l1 * sum(abs(float(w)) for w in weights) + l2 * sum(float(w) ** 2 for w in weights)
    assert penalty.value(np, weights) == pytest.approx(expected, rel=1e-12, abs=0)


@each_penalty
def test_gradient_against_central_differences(penalty):
    """Away from the kink, central differences of |w| and w² are exact up to rounding."""
    weights = np.random.default_rng(0).normal(size=40)
    step = np.abs(weights).min() / 2
    gradient = gradient_of(penalty, weights)
    for index in range(weights.size):
        moved = [weights.copy(), weights.copy()]
        moved[0][index] -= step
        moved[1][index] += step
        below, above = (penalty.value(np, each) for each in moved)
        assert gradient[index] == pytest.approx((above - below) / (2 * step), rel=1e-9, abs=1e-11 / step)


@each_penalty
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_is_added_in_place(penalty, dtype):
    random = np.random.default_rng(0)
    weights, start = random.normal(size=(2, 1000)).astype(dtype)
    added = gradient_of(penalty, weights, start=start)
    assert added.dtype == dtype
    l1, l2 = factors(penalty)
    expected = [g + (l1 if w > 0 else -l1) + 2 * l2 * w for g, w in zip(start.tolist(), weights.tolist(), strict=True)]
    np.testing.assert_allclose(added, expected, rtol=0, atol=10 * np.finfo(dtype).eps)


@each_penalty
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_subgradient_at_the_kink_is_zero(penalty, zero):
    assert penalty.value(np, np.full(3, zero)) == 0
    assert not gradient_of(penalty, np.full(3, zero)).any()


@each_penalty
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, SIZE), max_size=8))
def test_dividing_the_vectors_changes_no_bit(penalty, cuts):
    weights, start = np.random.default_rng(0).normal(size=(2, SIZE)).astype(np.float32)
    weights[::7] = 0
    pieces = [slice(*edges) for edges in pairwise([0, *sorted(cuts), SIZE])]
    with patch("core.arrays.BLOCK", 1000):  # several blocks even in a short vector
        whole = gradient_of(penalty, weights, start=start)
        assert gradient_of(penalty, weights, pieces, start).tobytes() == whole.tobytes()


@each_penalty
def test_weights_can_be_read_only_and_strided(penalty):
    weights = np.random.default_rng(0).normal(size=40)[::2]
    weights.flags.writeable = False
    np.testing.assert_array_equal(gradient_of(penalty, weights), gradient_of(penalty, weights.copy()))
    assert penalty.value(np, weights) == penalty.value(np, weights.copy())


@each_penalty
def test_memory_is_limited(penalty):
    weights, gradients = np.ones((2, 300_000), np.float32)
    scratch = np.empty(BLOCK, np.float32)

    def step():
        penalty.add_gradient(np, weights, gradients, scratch)
        penalty.value(np, weights)

    assert peak_growth(step) < 200_000


def test_elastic_net_is_the_sum_of_l1_and_l2():
    weights = np.random.default_rng(0).normal(size=100)
    net, one, two = ElasticNet(l1=0.2, l2=0.7), L1(0.2), L2(0.7)
    assert net.value(np, weights) == one.value(np, weights) + two.value(np, weights)
    both = gradient_of(two, weights, start=gradient_of(one, weights))
    np.testing.assert_array_equal(gradient_of(net, weights), both)


@pytest.mark.parametrize("penalty", registered("penalty").values())
def test_a_factor_multiplies_the_gradient(penalty):
    penalty = penalty(**dict.fromkeys(penalty.annotations.keys() & {"weight", "l1", "l2"}, 0.25))
    weights = np.array([-2.0, 0, 0.5])
    once, twice = np.zeros(3), np.zeros(3)
    penalty.add_gradient(np, weights, once, np.empty(3))
    penalty.add_gradient(np, weights, twice, np.empty(3), 2.0)
    assert once.any()
    np.testing.assert_array_equal(twice, 2 * once)


def test_biases_and_layers_with_penalized_false_are_excluded():
    layers = [Linear(units=5), Linear(units=4, penalized=False), Linear(units=3)]
    layout = ParameterLayout(build_classifier(layers, 6).parameters())
    names = [name for name in layout.names if (layout.slice(name).start, layout.slice(name).stop) in layout.penalized]
    assert names == ["0_linear.weight", "scores.weight"]
