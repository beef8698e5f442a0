"""Elementwise functions against scalar definitions, at kinks and for large arguments."""

import math

import numpy as np
import pytest

from core import (
    ELU,
    GELU,
    Abs,
    Exp,
    HardTanh,
    Identity,
    LeakyReLU,
    Log,
    LogSigmoid,
    Node,
    Power,
    PReLU,
    Reciprocal,
    ReLU,
    ReLU6,
    Sigmoid,
    Softplus,
    Softshrink,
    Softsign,
    Sqrt,
    Square,
    Swish,
    Tanh,
    Threshold,
)
from tests.core.fixtures.direct import evaluate


def name_of(parameter):
    return str(parameter) if isinstance(parameter, Node) else ""


def logistic(x):
    return 1 / (1 + math.exp(-x))


def normal_distribution(x):
    return (1 + math.erf(x / math.sqrt(2))) / 2


# A node, its function and its derivative, as defined in textbooks.
DEFINITIONS = [
    (Identity(), lambda x: x, lambda _: 1),
    (ReLU(), lambda x: max(0, x), lambda x: x > 0),
    (Threshold(), lambda x: max(0, x), lambda x: x > 0),
    (Threshold(threshold=-0.5, value=7), lambda x: x if x > -0.5 else 7, lambda x: x > -0.5),
    (ReLU6(), lambda x: 0 if x < 0 else min(x, 6), lambda x: 0 < x < 6),
    (LeakyReLU(), lambda x: x if x > 0 else 0.1 * x, lambda x: 1 if x > 0 else 0.1),
    (LeakyReLU(slope=0.0), lambda x: max(0, x), lambda x: x > 0),
    (ELU(), lambda x: x if x > 0 else math.exp(x) - 1, lambda x: 1 if x > 0 else math.exp(x)),
    (ELU(alpha=3), lambda x: x if x > 0 else 3 * math.exp(x) - 3, lambda x: 1 if x > 0 else 3 * math.exp(x)),
    (Tanh(), lambda x: 1 - 2 / (1 + math.exp(2 * x)), lambda x: 1 / math.cosh(x) ** 2),
    (HardTanh(), lambda x: sorted((-1, x, 1))[1], lambda x: -1 < x < 1),
    (Sigmoid(), logistic, lambda x: logistic(x) * logistic(-x)),
    (LogSigmoid(), lambda x: math.log(logistic(x)), lambda x: logistic(-x)),
    (Softplus(), lambda x: math.log(1 + math.exp(x)), logistic),
    (Softsign(), lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2),
    (Softshrink(), lambda x: math.copysign(max(abs(x) - 0.5, 0), x), lambda x: abs(x) > 0.5),
    (Swish(), lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * logistic(-x))),
    (
        Swish(beta=0.7),
        lambda x: x * logistic(0.7 * x),
        lambda x: logistic(0.7 * x) * (1 + 0.7 * x * logistic(-0.7 * x)),
    ),
    (Abs(), abs, lambda x: (x > 0) - (x < 0)),
    (Square(), lambda x: x * x, lambda x: 2 * x),
    (Power(exponent=3), lambda x: x * x * x, lambda x: 3 * x * x),
    (Power(exponent=0), lambda _: 1, lambda _: 0),
    (Power(exponent=1), lambda x: x, lambda _: 1),
]
DEFINITIONS_FOR_POSITIVE = [
    (Exp(), math.exp, math.exp),
    (Log(), math.log, lambda x: 1 / x),
    (Sqrt(), math.sqrt, lambda x: 0.5 / math.sqrt(x)),
    (Reciprocal(), lambda x: 1 / x, lambda x: -1 / x**2),
    (Power(exponent=-0.5), lambda x: 1 / math.sqrt(x), lambda x: -0.5 / math.sqrt(x) ** 3),
]


def check(node, function, derivative, x):
    upstream = np.random.default_rng(0).normal(size=x.shape)
    value, gradient = evaluate(node, x, upstream=upstream)
    np.testing.assert_allclose(value, [function(each) for each in x.tolist()], rtol=1e-13, atol=1e-15)
    slopes = np.array([derivative(each) for each in x.tolist()], float)
    np.testing.assert_allclose(gradient, upstream * slopes, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("node", "function", "derivative"), DEFINITIONS, ids=name_of)
def test_definition(node, function, derivative):
    kinks = [-1, -0.5, 0, 0.5, 1, 6]
    beside = [np.nextafter(kink, way) for kink in kinks for way in (-9, 9)]
    check(node, function, derivative, np.array([*np.linspace(-7, 7, 57), *kinks, *beside, -0.0]))


@pytest.mark.parametrize(("node", "function", "derivative"), DEFINITIONS_FOR_POSITIVE, ids=name_of)
def test_definition_where_positive(node, function, derivative):
    check(node, function, derivative, np.linspace(0.01, 7, 57))


def test_gelu_approximates_its_exact_form():
    x = np.linspace(-8, 8, 1601)
    value, gradient = evaluate(GELU(), x)
    exact = [each * normal_distribution(each) for each in x]
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(value, exact, atol=5e-4)
    np.testing.assert_allclose(gradient, [normal_distribution(each) for each in x] + x * density, atol=2e-3)
    t = math.tanh(math.sqrt(2 / math.pi) * (1.5 + 0.044715 * 1.5**3))
    assert evaluate(GELU(), [1.5])[0] == pytest.approx(0.75 * (1 + t), rel=1e-15)


# (node, x, value, gradient) far from 0, where a naive formula overflows or loses digits by cancellation.
FAR = [
    (Sigmoid(), [-1e4, 1e4], [0, 1], [0, 0]),
    (Tanh(), [-1e4, 1e4], [-1, 1], [0, 0]),
    (LogSigmoid(), [-1e4, 40, 1e4], [-1e4, -math.exp(-40), 0], [1, math.exp(-40), 0]),
    (Softplus(), [-1e4, -40, 1e4], [0, math.exp(-40), 1e4], [0, math.exp(-40), 1]),
    (ELU(), [-1e4, -1e-10, 1e4], [-1, -1e-10 + 5e-21, 1e4], [0, 1 - 1e-10, 1]),
    (Softsign(), [-1e15, 1e4], [-1e15 / (1 + 1e15), 1e4 / 10001], [1e-30, 10001.0**-2]),
    (Swish(), [-1e4, 1e4], [0, 1e4], [0, 1]),
    (GELU(), [-1e4, 1e4], [0, 1e4], [0, 1]),
    (ReLU6(), [5e-324, 6 - 2**-50, 1e300], [5e-324, 6 - 2**-50, 6], [1, 1, 0]),
    (HardTanh(), [-1e300, 5e-324], [-1, 5e-324], [0, 1]),
]


@pytest.mark.parametrize(("node", "x", "value", "gradient"), FAR, ids=name_of)
def test_large_arguments(node, x, value, gradient):
    got = evaluate(node, x)
    np.testing.assert_allclose(got[0], value, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(got[1], gradient, rtol=1e-12, atol=1e-300)
    single, slope = evaluate(node, np.clip(x, -1e30, 1e30), dtype=np.float32)
    assert np.isfinite(single).all()
    assert np.isfinite(slope).all()


def test_prelu_against_a_loop():
    random = np.random.default_rng(0)
    x, slope, upstream = random.normal(size=(4, 2, 3)), np.array([0.3, -0.7, 0.0]), random.normal(size=(4, 2, 3))
    x[0, 0], x[1, 1] = 0.0, [-0.0, 2.0, -2.0]
    value, x_gradient, slope_gradient = evaluate(PReLU(), x, slope, upstream=upstream)
    expected = np.zeros(3)
    for index in np.ndindex(x.shape):
        factor = 1 if x[index] > 0 else slope[index[-1]]
        assert value[index] == factor * x[index]
        assert x_gradient[index] == factor * upstream[index]
        expected[index[-1]] += upstream[index] * min(x[index], 0)
    np.testing.assert_allclose(slope_gradient, expected, rtol=1e-13)
