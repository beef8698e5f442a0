"""Activations in float32, as far out as float32 goes, against their definitions in extended precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from core import (
    ELU,
    GELU,
    HardTanh,
    LeakyReLU,
    LogSigmoid,
    Node,
    PReLU,
    ReLU,
    ReLU6,
    RReLU,
    Sigmoid,
    Softplus,
    Softshrink,
    Softsign,
    Swish,
    Tanh,
    Threshold,
)
from core.layers.base import Elementwise
from core.registry import registered
from tests.core.fixtures.direct import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Values = NDArray[np.longdouble]

SIZES = [1e-40, 1e-30, 1e-8, 1e-3, 0.3, 2.9, 5, 10, 17, 20, 30, 50, 80, 87, 88, 100, 1e3, 1e5, 5e13, 1e19, 1e30, 3e38]
EPSILON, TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)


def logistic(x: Values) -> Values:
    return 1 / (1 + np.exp(-x))


def logistic_slope(x: Values) -> Values:
    return np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))) ** 2


def gelu_argument(x: Values) -> Values:
    return 2 * np.sqrt(2 / np.longdouble(np.pi)) * (x + np.longdouble("0.044715") * x**3)


def gelu_argument_slope(x: Values) -> Values:
    return 2 * np.sqrt(2 / np.longdouble(np.pi)) * (1 + 3 * np.longdouble("0.044715") * x**2)


# By node: the function and its derivative.
DEFINITIONS: list[tuple[Elementwise, Callable[[Values], Values], Callable[[Values], Values]]] = [
    (Sigmoid(), logistic, logistic_slope),
    (LogSigmoid(), lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), lambda x: logistic(-x)),
    (Softplus(), lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), logistic),
    (Tanh(), np.tanh, lambda x: 4 * logistic_slope(2 * x)),
    (HardTanh(), lambda x: np.clip(x, -1, 1), lambda x: 1 * (np.abs(x) < 1)),
    (Softsign(), lambda x: x / (1 + np.abs(x)), lambda x: (1 + np.abs(x)) ** -2),
    (Softshrink(), lambda x: x - np.clip(x, -0.5, 0.5), lambda x: 1 * (np.abs(x) > 0.5)),
    (Swish(), lambda x: x * logistic(x), lambda x: logistic(x) + x * logistic_slope(x)),
    (Swish(beta=3.0), lambda x: x * logistic(3 * x), lambda x: logistic(3 * x) + 3 * x * logistic_slope(3 * x)),
    (
        GELU(),
        lambda x: x * logistic(gelu_argument(x)),
        lambda x: logistic(gelu_argument(x)) + x * gelu_argument_slope(x) * logistic_slope(gelu_argument(x)),
    ),
    (ELU(), lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.exp(np.minimum(x, 0))),
    (ELU(alpha=3.0), lambda x: np.where(x > 0, x, 3 * np.expm1(x)), lambda x: np.where(x > 0, 1, 3 * np.exp(x))),
    (ReLU(), lambda x: np.maximum(x, 0), lambda x: 1 * (x > 0)),
    (ReLU6(), lambda x: np.clip(x, 0, 6), lambda x: 1 * ((x > 0) & (x < 6))),
    (LeakyReLU(slope=0.0), lambda x: np.maximum(x, 0), lambda x: 1 * (x > 0)),
    (Threshold(threshold=5.0, value=-2.0), lambda x: np.where(x > 5, x, -2), lambda x: 1 * (x > 5)),
    # Without noise, the slopes are the lowest.
    (RReLU(lower=0.25), lambda x: np.where(x > 0, x, x / 4), lambda x: np.where(x > 0, 1, np.longdouble(0.25))),
    (
        LeakyReLU(slope=0.25),
        lambda x: np.where(x > 0, x, x / 4),
        lambda x: np.where(x > 0, 1, np.longdouble(0.25)),
    ),
]


def name_of(parameter: object) -> str:
    return str(parameter) if isinstance(parameter, Node) else ""


def test_every_activation_is_here() -> None:
    elementwise = {each for each in registered("layer").values() if issubclass(each, Elementwise)}
    activations = {each for each in elementwise if each.__module__.startswith("core.layers.activation.")}
    assert {type(node) for node, _, _ in DEFINITIONS} == activations


@pytest.mark.parametrize(("node", "function", "derivative"), DEFINITIONS, ids=name_of)
def test_float32_keeps_its_digits(
    node: Elementwise, function: Callable[[Values], Values], derivative: Callable[[Values], Values]
) -> None:
    x = np.array([*(-size for size in SIZES), *SIZES], np.float32)
    with np.errstate(over="ignore"):  # of a square, in GELU
        value, slope = evaluate(node, x, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = function(x.astype(np.longdouble))
        exact_slope = derivative(x.astype(np.longdouble))
    exact_slope = np.nan_to_num(exact_slope)  # infinity times 0
    assert_close(value, exact, x)
    # Where the derivative of a sigmoid, tanh or logarithm is 1 - y of an output near 1, PyTorch's has this error too.
    assert_close(slope, exact_slope, x, allowed=2 * EPSILON if node.type in {"sigmoid", "tanh"} else 0)


def assert_close(found: NDArray[np.float32], exact: Values, x: NDArray[np.float32], allowed: float = 0) -> None:
    # The argument of an exponential is rounded, and at most about 100 where its value is not 0.
    error = np.abs(found.astype(np.longdouble) - exact)
    wrong = ~(error <= 128 * EPSILON * np.abs(exact) + allowed + 128 * TINY)
    assert not wrong.any(), [(x[i], found[i], exact[i]) for i in np.flatnonzero(wrong)]


@pytest.mark.parametrize("node", [LeakyReLU(slope=0.0), ReLU(), Threshold()], ids=name_of)
def test_infinity_stays_infinity(node: Elementwise) -> None:
    value, slope = evaluate(node, [-np.inf, np.inf], dtype=np.float32)
    assert value.tolist() == [0, np.inf]
    assert slope.tolist() == [0, 1]


def test_prelu_far_out() -> None:
    value, slope, _ = evaluate(PReLU(), [[-3e38, 3e38]], [0.25, 0.25], dtype=np.float32)
    assert value.tolist() == [[np.float32(-3e38) / 4, np.float32(3e38)]]
    assert slope.tolist() == [[0.25, 1]]
