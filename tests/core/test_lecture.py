"""Numerical examples of the lecture. Where a slide has an arithmetic error, the value follows from its definition."""

import tracemalloc
from fractions import Fraction
from math import exp, fsum, log

import numpy as np
import pytest

from core import (
    BATCH,
    L2,
    AbsoluteError,
    Add,
    Exp,
    Graph,
    Hinge,
    Linear,
    Multiply,
    Plan,
    Program,
    Reciprocal,
    ReLU,
    Scale,
    Shift,
    Sigmoid,
    SoftmaxCrossEntropy,
    SquaredError,
)

SCORES = [(3.2, 5.1, -1.7), (1.3, 4.9, 2.0), (2.2, 2.5, -3.1)]  # cat, chair, car, for three images
CLASSES = [0, 1, 2]


def evaluate(graph, output, inputs, upstream=1.0, wrt=None):
    """Return the value of the output and the gradients of `wrt`, in float64; by default all inputs."""
    floats = [name for name, declared in graph.inputs.items() if not declared.integer]
    batch = next((len(inputs[n]) for n, declared in graph.inputs.items() if BATCH in declared.shape), 1)
    plan = Plan(Program.compile(graph, (output,), batch=batch, dtype=np.float64, wrt=floats if wrt is None else wrt))
    for name, value in inputs.items():
        plan.inputs[name][...] = value
    plan.forward()
    plan.backward({output: upstream})
    return plan.value(output).copy(), {name: plan.gradient(name).copy() for name in plan.program.wrt}


def losses(loss, scores, labels):
    graph = Graph()
    graph.input("scores", (BATCH, len(scores[0])))
    graph.input("labels", (BATCH,), integer=True)
    graph.add("loss", loss, "scores", "labels")
    value, gradients = evaluate(graph, "loss", {"scores": scores, "labels": labels})
    return value, gradients["scores"]


def test_sum_times_z():
    graph = Graph()
    for name in "xyz":
        graph.input(name, ())
    graph.add("d", Add(), "x", "y")
    graph.add("f", Multiply(), "d", "z")
    value, gradients = evaluate(graph, "f", {"x": 1, "y": -3, "z": 4}, wrt=("x", "y", "z", "d", "f"))
    assert value == -8
    # The slide's chain rule prints 4 * 1 = -4 for x.
    assert gradients == {"x": 4, "y": 4, "z": -2, "d": 4, "f": 1}


def test_numerical_and_analytical_derivative_of_the_reciprocal():
    graph = Graph()
    graph.input("x", ())
    graph.add("f", Reciprocal(), "x")
    at_one, gradients = evaluate(graph, "f", {"x": 1.0})
    nearby, _ = evaluate(graph, "f", {"x": 1.001})
    assert gradients["x"] == -1
    assert (nearby - at_one) / 0.001 == pytest.approx(-1 / 1.001, rel=1e-12)
    assert round(float(nearby - at_one) / 0.001, 3) == -0.999


SIGMOID_INPUTS = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "b": -3}


def sum_before_sigmoid():
    graph = Graph()
    for name in SIGMOID_INPUTS:
        graph.input(name, ())
    graph.add("w0x0", Multiply(), "w0", "x0")
    graph.add("w1x1", Multiply(), "w1", "x1")
    graph.add("wx", Add(), "w0x0", "w1x1")
    graph.add("sum", Add(), "wx", "b")
    return graph


def test_gradients_of_the_circuit():
    graph = sum_before_sigmoid()
    graph.add("negative", Scale(factor=-1), "sum")
    graph.add("exp", Exp(), "negative")
    graph.add("plus1", Shift(offset=1), "exp")
    graph.add("f", Reciprocal(), "plus1")
    value, gradients = evaluate(graph, "f", SIGMOID_INPUTS, wrt=(*SIGMOID_INPUTS, *graph.nodes))
    assert round(float(value), 2) == 0.73
    # The values in the diagram, from right to left, rounded from the exact gradients.
    printed = {"f": 1, "plus1": -0.53, "exp": -0.53, "negative": -0.20, "sum": 0.20, "wx": 0.20, "b": 0.20}
    printed |= {"w0x0": 0.20, "w1x1": 0.20, "w0": -0.20, "x0": 0.39, "w1": -0.39, "x1": -0.59}
    assert {name: round(float(each), 2) for name, each in gradients.items()} == printed
    slope = exp(-1) / (1 + exp(-1)) ** 2
    for name, factor in {"w0": -1, "x0": 2, "w1": -2, "x1": -3, "b": 1}.items():
        assert gradients[name] == pytest.approx(factor * slope, rel=1e-14), name


def test_sigmoid_node_equals_the_circuit():
    graph = sum_before_sigmoid()
    graph.add("f", Sigmoid(), "sum")
    value, gradients = evaluate(graph, "f", SIGMOID_INPUTS)
    assert value == pytest.approx(1 / (1 + exp(-1)), rel=1e-15)
    assert {name: round(float(each), 2) for name, each in gradients.items()} == {
        "w0": -0.20, "x0": 0.39, "w1": -0.39, "x1": -0.59, "b": 0.20,
    }  # fmt: skip


def hinge_by_fractions(scores, label, margin=1):
    scores = [Fraction(str(score)) for score in scores]
    return sum(max(Fraction(0), s - scores[label] + margin) for j, s in enumerate(scores) if j != label)


def softmax_by_definition(scores, label):
    return -log(exp(scores[label]) / fsum(map(exp, scores)))


def test_hinge_of_the_three_images():
    value, _ = losses(Hinge(), SCORES, CLASSES)
    exact = [hinge_by_fractions(scores, label) for scores, label in zip(SCORES, CLASSES, strict=True)]
    assert exact == [Fraction("2.9"), 0, Fraction("12.9")]  # the slide prints 10.9: 2.2 - (-3.1) + 1 is 6.3, not 5.3
    np.testing.assert_allclose(value, [float(each) for each in exact], rtol=1e-14, atol=0)


def test_softmax_of_the_three_images():
    value, _ = losses(SoftmaxCrossEntropy(), SCORES, CLASSES)
    np.testing.assert_allclose(
        value, [softmax_by_definition(scores, label) for scores, label in zip(SCORES, CLASSES, strict=True)], rtol=1e-13
    )
    assert [round(each, 2) for each in value.tolist()] == [2.04, 0.08, 6.16]  # the slide prints 2.04, 0.14, 6.94


@pytest.mark.parametrize(
    ("scores", "hinge", "softmax"),
    [((5, -3, 2), 0, "0.05"), ((5, 10, 10), 12, "5.70"), ((5, -20, -20), 0, "2.8e-11")],
)
def test_hinge_saturates_and_softmax_does_not(scores, hinge, softmax):
    value, slope = losses(Hinge(), [scores], [0])
    assert value == [hinge]
    assert np.any(slope != 0) == (hinge > 0)

    value, slope = losses(SoftmaxCrossEntropy(), [scores], [0])
    digits = ".1e" if "e" in softmax else ".2f"
    assert format(value[0], digits) == softmax
    assert np.all(slope != 0)
    assert slope[0, 0] < 0


GRIDS = (
    [[12, 24, 42, 23], [34, 32, 5, 2], [12, 31, 12, 31], [31, 64, 5, 13]],
    [[15, 20, 40, 25], [34, 32, 5, 2], [12, 31, 12, 31], [31, 64, 5, 13]],
)


@pytest.mark.parametrize(("loss", "expected"), [(SquaredError(), 9 + 16 + 4 + 4), (AbsoluteError(), 3 + 4 + 2 + 2)])
def test_differences_of_the_two_grids(loss, expected):
    # The slide prints 66 and 15.
    graph = Graph()
    for name in "xy":
        graph.input(name, (BATCH, 4, 4))
    graph.add("loss", loss, "x", "y")
    value, _ = evaluate(graph, "loss", {"x": [GRIDS[0]], "y": [GRIDS[1]]})
    assert value == [expected]


@pytest.mark.parametrize(("weights", "penalty"), [((1, 0, 0, 0), 1), ((0.25, 0.25, 0.25, 0.25), 0.25)])
def test_penalty_is_smaller_for_spread_weights_of_the_same_score(weights, penalty):
    graph = Graph()
    graph.input("x", (BATCH, 4))
    graph.add("score", Linear(units=1), "x")
    plan = Plan(Program.compile(graph, ("score",)))
    plan.layout.views(plan.parameters)["score.weight"][:, 0] = weights
    plan.inputs["x"].fill(1)
    plan.forward()
    assert plan.value("score") == 1

    ((start, stop),) = plan.layout.penalized
    penalized = plan.parameters[start:stop]
    assert L2(1.0).value(np, penalized) == penalty
    L2(1.0).add_gradient(np, penalized, plan.gradients[start:stop], np.empty_like(penalized))
    np.testing.assert_array_equal(plan.gradients[start:stop], 2 * np.array(weights))  # no factor 1/2 in the penalty


@pytest.mark.parametrize("layer", [ReLU(), Sigmoid()])
def test_no_jacobian_is_built(layer):
    batch, width = 16, 4096
    graph = Graph()
    graph.input("x", (BATCH, width))
    graph.add("y", layer, "x")
    tracemalloc.start()
    try:
        plan = Plan(Program.compile(graph, ("y",), batch=batch, wrt=("x",)))
        plan.inputs["x"][...] = np.random.default_rng(0).normal(size=(batch, width))
        plan.forward()
        plan.backward({"y": 1.0})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    values = batch * width
    jacobian_of_one_sample = 4 * width**2
    # The input in float32, the random values in float64, the output and both gradients: 24 bytes per value.
    assert 16 * values < peak < 32 * values < jacobian_of_one_sample
