"""Layers that Torch's and Caffe's listings have, against loops over their definitions."""

import numpy as np
import pytest

from core import (
    BATCH,
    Bias,
    Entry,
    Gain,
    Graph,
    LeakyReLU,
    Linear,
    MatMul,
    Maximum,
    Plan,
    Program,
    RandomKey,
    RReLU,
    build_classifier,
)
from tests.core.fixtures.direct import evaluate

random = np.random.default_rng(0)
X, U = random.normal(size=(3, 2, 4)), random.normal(size=(3, 2, 4))


def number_of(per, place):
    """The index of the learnt number for an element of a sample."""
    _, row, column = place
    return {"element": (row, column), "feature": (column,), "layer": (0,)}[per]


@pytest.mark.parametrize(("per", "shape"), [("element", (2, 4)), ("feature", (4,)), ("layer", (1,))])
@pytest.mark.parametrize("cls", [Bias, Gain])
def test_a_learnt_number_for_each_element_feature_or_layer(cls, per, shape):
    numbers = random.normal(size=shape)
    node = cls(per=per)
    (declared,) = node.parameters(X.shape)
    assert (declared.shape, declared.penalized) == (shape, False)
    value, x_gradient, gradient = evaluate(node, X, numbers, upstream=U)
    sums = np.zeros(shape)
    for place in np.ndindex(X.shape):
        number = numbers[number_of(per, place)]
        expected = X[place] + number if cls is Bias else X[place] * number
        assert value[place] == pytest.approx(expected, rel=1e-14)
        assert x_gradient[place] == pytest.approx(U[place] * (1 if cls is Bias else number), rel=1e-14)
        sums[number_of(per, place)] += U[place] * (1 if cls is Bias else X[place])
    np.testing.assert_allclose(gradient, sums, rtol=1e-13)


def test_a_gain_starts_as_the_identity():
    plan = Plan(Program.compile(build_classifier([Gain()], 3), ("scores",), batch=2))
    assert plan.layout.names == ("scores.gain",)
    assert [float(each.initializer.value) for each in plan.layout.declarations.values()] == [1.0]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_matmul_against_loops(first, second):
    x, y, upstream = random.normal(size=(2, 3, 4)), random.normal(size=(2, 4, 5)), random.normal(size=(2, 3, 5))
    expected, of_x, of_y = np.zeros((2, 3, 5)), np.zeros_like(x), np.zeros_like(y)
    for b, n, m, p in np.ndindex(2, 3, 4, 5):
        expected[b, n, p] += x[b, n, m] * y[b, m, p]
        of_x[b, n, m] += upstream[b, n, p] * y[b, m, p]
        of_y[b, m, p] += upstream[b, n, p] * x[b, n, m]
    given = [each.swapaxes(1, 2).copy() if turned else each for each, turned in ((x, first), (y, second))]
    node = MatMul(transpose_first=first, transpose_second=second)
    value, x_gradient, y_gradient = evaluate(node, *given, upstream=upstream)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(x_gradient.swapaxes(1, 2) if first else x_gradient, of_x, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(y_gradient.swapaxes(1, 2) if second else y_gradient, of_y, rtol=1e-13, atol=1e-14)
    assert node.multiply_adds(*(each.shape for each in given)) == 2 * 3 * 4 * 5


@pytest.mark.parametrize(
    ("shapes", "node"),
    [
        (((2, 3, 4), (2, 5, 4)), MatMul()),
        (((2, 3, 4), (2, 4, 5)), MatMul(transpose_first=True)),
        (((2, 3, 4), (2, 4, 5)), MatMul(transpose_second=True)),
        (((2, 3, 4), (2, 4)), MatMul()),
        (((2, 3, 4), (3, 4, 5)), MatMul()),
    ],
    ids=str,
)
def test_matmul_of_shapes_that_do_not_fit(shapes, node):
    with pytest.raises(ValueError, match=r"matmul needs inputs of shapes .*, not \(2, 3, 4\) and"):
        node.infer(*shapes)


def test_maximum_of_several_inputs_shares_ties():
    inputs = [[1.0, 2.0, 5.0, -np.inf], [1.0, 2.0, -7.0, 3.0], [0.0, 2.0, 4.0, -np.inf]]
    value, *gradients = evaluate(Maximum(), *inputs, upstream=[6.0, 6.0, 6.0, 6.0])
    assert value.tolist() == [1, 2, 5, 3]
    assert [each.tolist() for each in gradients] == [[3, 2, 6, 0], [3, 2, 0, 6], [0, 2, 0, 0]]


def test_maximum_of_one_value_read_twice_is_that_value():
    graph = Graph()
    graph.input("x", (BATCH, 3))
    graph.add("twice", Maximum(), "x", "x")
    plan = Plan(Program.compile(graph, ("twice",), batch=1, dtype=np.float64, wrt=["x"]))
    plan.inputs["x"][...] = [[-1, 0, 2]]
    plan.forward()
    plan.backward({"twice": 4.0})
    assert plan.value("twice").tolist() == [[-1, 0, 2]]
    assert plan.gradient("x").tolist() == [[4, 4, 4]]


def test_rrelu_draws_each_slope_from_its_range():
    x = np.linspace(-3, 3, 6)
    noise = np.float32([0, 0.25, 0.5, 0.75, 0, 0.9])
    value, gradient = evaluate(RReLU(lower=0.1, upper=0.5), x, noise=noise, upstream=2.0)
    slopes = [0.1, 0.2, 0.3, 1, 1, 1]
    np.testing.assert_allclose(value, x * slopes, rtol=1e-7)
    np.testing.assert_allclose(gradient, 2 * np.array(slopes), rtol=1e-7)
    assert evaluate(RReLU(), [0.0], noise=[0.5])[1] == pytest.approx((1 / 8 + 1 / 3) / 2)


def test_rrelu_in_evaluation_has_the_mean_slope_and_other_slopes_in_each_step():
    assert RReLU(lower=0.25, upper=0.5).evaluation() == LeakyReLU(slope=0.375)
    graph = build_classifier([Entry(RReLU(), "r"), Linear(units=2)], 200)
    plan = Plan(Program.compile(graph, ("scores", "r"), batch=1))
    plan.inputs["features"][...] = -1
    found = []
    for step in (1, 2, 1):
        plan.forward(RandomKey(3, 0, step, 0))
        found.append(plan.value("r").copy())
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    assert ((found[0] >= -1 / 3) & (found[0] <= -1 / 8)).all()
    assert found[0].mean() == pytest.approx(-(1 / 8 + 1 / 3) / 2, abs=0.03)


def test_the_range_of_rrelu_is_not_empty():
    with pytest.raises(ValueError, match=r"rrelu\.lower must be at most rrelu\.upper, which is 0\.3, not 0\.4"):
        RReLU(lower=0.4, upper=0.3)
