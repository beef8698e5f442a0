"""Tests of the gradient check: correct gradients must pass, and deliberately wrong ones must be reported."""

from typing import ClassVar

import numpy as np
import pytest

from core import (
    BATCH,
    Add,
    BatchNorm,
    Exp,
    Graph,
    Hinge,
    Linear,
    Log,
    Multiply,
    Plan,
    Power,
    Reciprocal,
    ReLU,
    Scale,
    Sigmoid,
    SoftmaxCrossEntropy,
    from_spec,
)
from core.gradcheck.check import check_graph
from core.gradcheck.kinks import kink_problems
from core.gradcheck.model import check_model
from core.gradcheck.report import Outcome
from core.graph.classifier import build_classifier, with_loss
from core.graph.node import Node


class Right(Node):
    """sin(x) with the correct gradient. Its subclasses have a wrong backward."""

    retains: ClassVar = frozenset({"inputs"})

    def infer(self, *shapes):
        return shapes[0]

    def forward(self, xp, inputs, output, workspace):
        xp.sin(inputs[0], out=output)

    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0][...] = upstream * xp.cos(inputs[0])


class OneEntryOffByOnePercent(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        super().backward(xp, upstream, inputs, output, workspace, gradients)
        gradients[0].reshape(-1)[gradients[0].size // 3] *= 1.01


class FlippedSign(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0][...] = -upstream * xp.cos(inputs[0])


class OneFlippedSign(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        super().backward(xp, upstream, inputs, output, workspace, gradients)
        gradients[0].reshape(-1)[-1] *= -1


class Zero(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0].fill(0)


class NotANumber(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0].fill(np.nan)


class Accumulates(Right):
    """Adds to the gradient buffer, whose content is undefined, instead of overwriting it."""

    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0][...] += upstream * xp.cos(inputs[0])


class Mutates(Right):
    """Negates its input, which backward may only read."""

    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        super().backward(xp, upstream, inputs, output, workspace, gradients)
        np.negative(inputs[0], out=inputs[0])


class MutatesUpstream(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        upstream *= xp.cos(inputs[0])
        gradients[0][...] = upstream


class Drifts(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        super().backward(xp, upstream, inputs, output, workspace, gradients)
        self.calls = getattr(self, "calls", 0) + 1
        gradients[0] *= 1 + 1e-14 * self.calls


class NotLinear(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0][...] = xp.sign(upstream) * xp.cos(inputs[0])


class RetainsTooLittle(Right):
    """Reads its input in backward without declaring it in `retains`."""

    retains: ClassVar = frozenset()


def check(node, size, seed):
    graph = Graph()
    graph.input("x", (BATCH, size))
    graph.add("y", node, "x")
    graph.add("z", Exp(), "y")
    x = np.random.default_rng(seed).normal(size=(2, size))
    return check_graph(graph, "z", {"x": x}, seed)


seeds = pytest.mark.parametrize("seed", range(5))
sizes = pytest.mark.parametrize("size", [6, 500], ids=["whole", "directions"])


@seeds
@sizes
def test_right_gradients_pass(size, seed):
    check(Right(), size, seed).assert_ok()


@seeds
@sizes
@pytest.mark.parametrize(
    "wrong",
    [OneEntryOffByOnePercent, FlippedSign, OneFlippedSign, Zero, NotANumber, Accumulates, RetainsTooLittle],
    ids=lambda c: c.__name__,
)
def test_wrong_values_are_reported(wrong, size, seed):
    report = check(wrong(), size, seed)
    assert not report.ok, report
    assert [tensor.name for tensor in report.tensors if not tensor.ok] == ["x"]
    with pytest.raises(AssertionError, match=rf"seed {seed}\nx: WRONG"):
        report.assert_ok()


@seeds
@sizes
@pytest.mark.parametrize("wrong", [OneEntryOffByOnePercent, OneFlippedSign], ids=lambda c: c.__name__)
def test_the_wrong_entry_is_reported(wrong, size, seed):
    (tensor,) = check(wrong(), size, seed).tensors
    place = 2 * size // 3 if wrong is OneEntryOffByOnePercent else 2 * size - 1
    assert tensor.index == np.unravel_index(place, (2, size))
    assert tensor.analytic == pytest.approx({True: 1.01, False: -1}[place < 2 * size - 1] * tensor.numeric)


@seeds
@sizes
@pytest.mark.parametrize(
    ("wrong", "breach"),
    [(Drifts, "differs when backward is called twice"), (NotLinear, "is not linear in the upstream gradient")],
)
def test_breaches_of_the_rules_are_reported(wrong, breach, size, seed):
    report = check(wrong(), size, seed)
    assert f"the gradient of x {breach}" in report.breaches


@pytest.mark.parametrize("wrong", [Mutates, MutatesUpstream])
def test_writing_to_a_read_only_array_raises(wrong):
    with pytest.raises(ValueError, match="read-only"):
        check(wrong(), 6, 0)


@seeds
def test_a_missing_term_at_a_fan_out_is_reported(seed, monkeypatch):
    def only_the_first(self):
        return [call for call in calls(self) if getattr(call[0], "func", None) is not np.add]

    calls = Plan._backward_calls
    graph = Graph()
    graph.input("x", (BATCH, 3))
    graph.add("a", Exp(), "x")
    graph.add("b", Multiply(), "a", "a")
    graph.add("y", Add(), "a", "b")
    x = np.random.default_rng(seed).normal(size=(2, 3))
    check_graph(graph, "y", {"x": x}, seed).assert_ok()
    monkeypatch.setattr(Plan, "_backward_calls", only_the_first)
    assert not check_graph(graph, "y", {"x": x}, seed).ok


def test_entries_at_a_kink_are_skipped_and_counted():
    graph = Graph()
    graph.input("x", (BATCH, 5))
    graph.add("y", ReLU(), "x")
    report = check_graph(graph, "y", {"x": [[0.0, 1.0, -1.0, 1e-4, -2e-6]]})
    report.assert_ok()
    # Only the entry at 0 is skipped. For the entries near 0, smaller steps avoid the kink.
    assert [tensor.skipped for tensor in report.tensors] == [1]
    assert not check_graph(graph, "y", {"x": np.zeros((1, 5))}).ok, "all entries were skipped, so none was checked"


@pytest.mark.parametrize("loss", [Hinge(), SoftmaxCrossEntropy()], ids=lambda loss: loss.type)
@pytest.mark.parametrize(("features", "units"), [(3, 4), (40, 30)])
@seeds
def test_networks(loss, features, units, seed):
    layers = [Linear(units=units), ReLU(), Linear(units=units), Sigmoid(), Linear(units=3)]
    graph = with_loss(build_classifier(layers, features), loss)
    random = np.random.default_rng(seed)
    inputs = {"features": random.normal(size=(5, features)), "labels": random.integers(0, 3, 5)}
    check_graph(graph, "loss", inputs, seed).assert_ok()


def test_a_large_tensor_is_checked_along_directions():
    (tensor,) = check(Right(), 500, 0).tensors
    assert tensor.ok
    assert tensor.index is None
    assert "along a direction" in str(tensor)


def test_finest_steps_avoid_a_large_number_of_kinks():
    graph = with_loss(build_classifier([Linear(units=400), ReLU(), Linear(units=3)], 300), Hinge())
    random = np.random.default_rng(0)
    inputs = {"features": random.normal(size=(8, 300)), "labels": random.integers(0, 3, 8)}
    report = check_graph(graph, "loss", inputs)
    assert report.ok, report
    (weight,) = [tensor for tensor in report.tensors if tensor.name == "0_linear.weight"]
    assert (weight.skipped, weight.total) == (0, 4)


def through_sigmoids(node, layers=9):
    """Check a node whose gradient vanishes in a chain of sigmoids."""
    graph = Graph()
    value = graph.input("x", (BATCH, 4))
    value = graph.add("y", node, value)
    for layer in range(layers):
        value = graph.add(f"sigmoid{layer}", Sigmoid(), value)
    return check_graph(graph, value, {"x": np.random.default_rng(0).normal(size=(2, 4))})


def test_a_small_gradient_passes():
    report = through_sigmoids(Right(), layers=4)
    report.assert_ok()
    assert abs(report.tensors[0].analytic) < 1e-2


def test_a_gradient_below_the_rounding_errors_cannot_be_checked():
    report = through_sigmoids(Right(), layers=12)
    assert report.outcome is Outcome.UNCHECKED
    (tensor,) = report.tensors
    assert "rounding errors of up to" in tensor.reason
    assert "x: cannot be checked, since rounding" in str(report)
    with pytest.raises(AssertionError, match="cannot be checked"):
        report.assert_ok()


@pytest.mark.parametrize("wrong", [OneEntryOffByOnePercent, OneFlippedSign, Zero], ids=lambda c: c.__name__)
def test_wrong_values_of_a_vanishing_gradient_are_reported(wrong):
    assert not through_sigmoids(wrong()).ok


@seeds
def test_a_gradient_that_is_zero_up_to_rounding(seed):
    """Batch normalization cancels a preceding bias, so the gradient of the bias is only rounding error."""
    layers = [Linear(units=6), BatchNorm(), Linear(units=3)]
    graph = with_loss(build_classifier(layers, 5), SoftmaxCrossEntropy())
    random = np.random.default_rng(seed)
    report = check_graph(graph, "loss", {"features": random.normal(size=(8, 5)), "labels": np.arange(8) % 3}, seed)
    report.assert_ok()
    (bias,) = [tensor for tensor in report.tensors if tensor.name == "0_linear.bias"]
    assert abs(bias.analytic) < 1e-12


def graph_of(node, size=8):
    graph = Graph()
    graph.input("x", (BATCH, size))
    graph.add("y", node, "x")
    return graph


class ReciprocalOffByAMillionth(Reciprocal):
    """At one entry."""

    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        super().backward(xp, upstream, inputs, output, workspace, gradients)
        gradients[0][1, 3] *= 1 + 1e-6


@pytest.mark.parametrize("nearest", [1e-2, 3.6e-4, -1e-5, 1e-6, -1e-8])
@pytest.mark.parametrize("node", [Reciprocal(), *(Power(exponent=-each) for each in range(1, 7))], ids=repr)
@sizes
def test_right_gradients_near_a_pole_are_not_called_wrong(node, nearest, size):
    x = np.random.default_rng(0).normal(size=(2, size))
    x[1, 3] = nearest
    report = check_graph(graph_of(node, size), "y", {"x": x})
    assert report.outcome is not Outcome.WRONG, report


@pytest.mark.parametrize("nearest", [3.6e-4, -1e-5, 1e-6])
@sizes
def test_a_wrong_gradient_near_a_pole_is_called_wrong(nearest, size):
    x = np.random.default_rng(0).normal(size=(2, size))
    x[1, 3] = nearest
    nodes = Reciprocal(), ReciprocalOffByAMillionth()
    right, wrong = (check_graph(graph_of(node, size), "y", {"x": x}) for node in nodes)
    right.assert_ok()
    assert wrong.outcome is Outcome.WRONG
    assert wrong.tensors[0].index == (1, 3)


@pytest.mark.parametrize("node", [Right(), Reciprocal()], ids=["right", "reciprocal"])
def test_differences_that_never_agree_cannot_be_checked(node, monkeypatch):
    """Only steps that are too large for the function: 1e-3 and 8e-3, beside a pole at 1e-4, or for sin(1e5 x)."""
    monkeypatch.setattr("core.gradcheck.differences.STEPS", (1e-3, 8e-3))
    monkeypatch.setattr("core.gradcheck.differences.FINE_STEPS", ())
    graph = Graph()
    graph.input("x", (BATCH, 1))
    graph.add("far", Scale(factor=1e5 if isinstance(node, Right) else 1.0), "x")
    graph.add("y", node, "far")
    report = check_graph(graph, "y", {"x": [[1e-4]]})
    assert report.outcome is Outcome.UNCHECKED, report
    assert report.tensors[0].reason == "differences with different steps disagree"


class InfiniteGradient(Right):
    def backward(self, xp, upstream, inputs, output, workspace, gradients):
        gradients[0].fill(np.inf)


@sizes
def test_an_infinite_gradient_is_wrong(size):
    assert check(InfiniteGradient(), size, 0).outcome is Outcome.WRONG


@pytest.mark.parametrize("node", [Log(), Power(exponent=3.5)], ids=repr)
def test_a_forward_pass_that_is_not_finite_cannot_be_checked(node):
    graph = graph_of(node)
    graph.add("z", Exp(), "y")
    report = check_graph(graph, "z", {"x": np.random.default_rng(0).normal(size=(2, 8))})
    assert report.outcome is Outcome.UNCHECKED
    assert (report.tensors, report.breaches) == ((), ())
    assert report.unchecked == ("the value of node 'y' is not finite in the forward pass",)
    with pytest.raises(AssertionError, match="cannot be checked: the value of node 'y' is not finite"):
        report.assert_ok()


@pytest.mark.parametrize("exponent", [-8, -12, -20])
@pytest.mark.parametrize("seed", [0, 2])
def test_numbers_that_are_too_large_for_float32_are_not_called_wrong(exponent, seed):
    graph = with_loss(build_classifier([Power(exponent=exponent), Linear(units=10)], 8), SoftmaxCrossEntropy())
    report = check_model(graph, seed=seed)
    assert report.outcome is not Outcome.WRONG, report
    if exponent < -8:
        assert "0_power by itself, 130 rows: values or gradients are too large for float32" in report.unchecked


def kinks_of(spec, *shapes, integer=False):
    """What is wrong at the kinks and ties of a node, and what is not checked."""
    kind = "loss" if len(shapes) > 1 else "layer"
    graph = Graph()
    names = [f"x{position}" for position in range(len(shapes))]
    for name, shape in zip(names, shapes, strict=True):
        graph.input(name, (BATCH, *shape), integer=integer and name == "x1")
    graph.add("y", from_spec(kind, spec), *names)
    return kink_problems(graph, "y", np.random.default_rng(0))


@pytest.mark.parametrize("margin", [[1, 2], [1, 0, 1, 2], 1, 0], ids=str)
def test_the_margin_of_a_crop_is_no_kink(margin):
    assert kinks_of({"type": "crop", "margin": margin}, (6, 6, 2)) == ([], [])


@pytest.mark.parametrize("threshold", [0.5, 0.002, 0.001, 1e-6, 0.0])
def test_steps_from_a_kink_do_not_cross_the_next_one(threshold):
    assert kinks_of({"type": "softshrink", "threshold": threshold}, (8,)) == ([], [])


@pytest.mark.parametrize("margin", [1.0, 0.01, 0.005, 0.001, 1e-6])
def test_ties_of_a_small_margin(margin):
    assert kinks_of({"type": "hinge", "margin": margin}, (4,), (), integer=True) == ([], [])


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "huber", "delta": 1e5},
        {"type": "huber", "delta": 1e12},
        {"type": "smooth_l1", "beta": 1e6},
        {"type": "hinge", "margin": 1e12},
    ],
    ids=str,
)
def test_kinks_whose_differences_are_rounded_too_much_cannot_be_checked(spec):
    labels = spec["type"] == "hinge"
    wrong, unchecked = kinks_of(spec, (3,), () if labels else (3,), integer=labels)
    assert not wrong
    assert unchecked[0] == "the gradient of x0 at a kink or tie, since rounding errors are too large"
