"""Losses and their gradients against the definitions, one sample at a time, in exact or long arithmetic."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import BATCH, Graph, Hinge, Plan, ReLU, SoftmaxCrossEntropy, build_classifier, with_loss
from core.losses.absolute_error import AbsoluteError


def evaluate(loss, scores, labels, dtype=np.float64):
    """Return the losses and their gradients for an upstream of one."""
    graph = Graph()
    scores = np.asarray(scores, dtype)
    graph.input("scores", (BATCH, scores.shape[1]))
    graph.input("labels", (BATCH,), integer=True)
    graph.add("loss", loss, "scores", "labels")
    plan = Plan(graph, ("loss",), batch=len(scores), dtype=dtype, wrt=("scores",))
    plan.inputs["scores"][...] = scores
    plan.inputs["labels"][...] = labels
    plan.forward()
    plan.backward({"loss": 1.0})
    return plan.value("loss"), plan.gradient("scores")


def softmax_reference(scores, label):
    """Return loss and gradient with 60 digits and exponents that no exp can leave."""
    with localcontext() as context:
        context.prec = 60
        exponentials = [Decimal(float(score)).exp() for score in scores]
        total = sum(exponentials)
        others = total - exponentials[label]
        gradient = [each / total for each in exponentials]
        gradient[label] = -others / total
        # ln(1 + x) by its series where x is too small for 60 digits to hold 1 + x.
        ratio = others / exponentials[label]
        loss = ratio - ratio**2 / 2 if ratio < Decimal("1e-25") else (1 + ratio).ln()
        return float(loss), [float(each) for each in gradient]


def hinge_reference(scores, label, margin):
    exact = [Fraction(float(score)) for score in scores]
    gaps = [score - exact[label] + Fraction(margin) for score in exact]
    active = [j != label and gap > 0 for j, gap in enumerate(gaps)]
    loss = sum((gap for gap, counts in zip(gaps, active, strict=True) if counts), Fraction(0))
    gradient = [int(counts) for counts in active]
    gradient[label] = -sum(active)
    return float(loss), gradient


def batches(largest):
    """Draw scores that float32 holds exactly, and labels."""
    score = st.floats(-largest, largest, width=32)
    return st.integers(2, 6).flatmap(
        lambda classes: st.lists(
            st.tuples(st.lists(score, min_size=classes, max_size=classes), st.integers(0, classes - 1)),
            min_size=1,
            max_size=4,
        )
    )


@pytest.mark.parametrize(("dtype", "digits"), [(np.float64, 1e-13), (np.float32, 1e-5)])
@pytest.mark.parametrize("largest", [1, 50])
@given(data=st.data())
def test_softmax_keeps_its_digits(dtype, digits, largest, data):
    scores, labels = zip(*data.draw(batches(largest)), strict=True)
    value, gradient = evaluate(SoftmaxCrossEntropy(), scores, labels, dtype)
    reference = [softmax_reference(each, label) for each, label in zip(scores, labels, strict=True)]
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(value, [loss for loss, _ in reference], rtol=digits, atol=tiny)
    np.testing.assert_allclose(gradient, [slope for _, slope in reference], rtol=20 * digits, atol=tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_far_apart_scores(dtype):
    far = [[1e4, -1e4, 0], [1e4, -1e4, 0], [0, -np.inf, -np.inf], [5, -20, -20]]
    value, gradient = evaluate(SoftmaxCrossEntropy(), far, [0, 1, 0, 0], dtype)
    np.testing.assert_allclose(value, [0, 2e4, 0, 2 * np.exp(-25)], rtol=1e-6)
    np.testing.assert_allclose(gradient[:3], [[0, 0, 0], [1, -1, 0], [0, 0, 0]])
    np.testing.assert_allclose(gradient[3], [-2 * np.exp(-25), np.exp(-25), np.exp(-25)], rtol=1e-5)


def test_softmax_of_an_impossible_class_is_infinite():
    value, gradient = evaluate(SoftmaxCrossEntropy(), [[-np.inf, 0.0]], [0])
    assert value == [np.inf]
    assert gradient.tolist() == [[-1, 1]]


@given(data=batches(100), margin=st.sampled_from([0.25, 1.0, 3.0]))
def test_hinge_is_the_sum_of_weston_and_watkins(data, margin):
    scores, labels = zip(*data, strict=True)
    # Multiples of 1/8: float64 makes no error, so that terms of exactly 0 are met and told apart.
    scores = np.round(np.array(scores) * 8) / 8
    value, gradient = evaluate(Hinge(margin=margin), scores, labels)
    reference = [hinge_reference(each, label, margin) for each, label in zip(scores, labels, strict=True)]
    assert value.tolist() == [loss for loss, _ in reference]
    assert gradient.tolist() == [slope for _, slope in reference]


def test_hinge_at_the_kink_is_flat():
    value, gradient = evaluate(Hinge(), [[3.0, 2.0, 2.0], [3.0, np.nextafter(2.0, 3), 2.0]], [0, 0])
    assert gradient.tolist() == [[0, 0, 0], [-1, 1, 0]]
    assert value[0] == 0 < value[1]


def test_hinge_of_tied_scores_counts_each():
    value, gradient = evaluate(Hinge(), [[1.0, 1.0, 1.0]], [1])
    assert value == [2]
    assert gradient.tolist() == [[1, -2, 1]]


def slopes(node, inputs, upstream):
    """Return what backward writes, called directly, with float64 arrays."""
    output = np.empty(node.infer(*(each.shape for each in inputs)))
    workspace = {name: np.empty(shape) for name, (shape, _) in node.workspace(*(x.shape for x in inputs)).items()}
    node.forward(np, inputs, output, workspace)
    gradients = [np.empty_like(each) for each in inputs]
    node.backward(np, upstream, inputs, output, workspace, gradients)
    return gradients


def test_relu_at_zero_is_flat():
    x = np.array([-0.0, 0.0, 5e-324, -5e-324])
    (gradient,) = slopes(ReLU(), [x], np.array([3.0, 4.0, 5.0, 6.0]))
    assert gradient.tolist() == [0, 0, 5, 0]


def test_absolute_error_at_zero_is_flat():
    x, y = slopes(AbsoluteError(), [np.array([[1.0, 2.0]]), np.array([[1.0, 3.0]])], np.array([2.0]))
    assert (x.tolist(), y.tolist()) == ([[0, -2]], [[0, 2]])


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ((4,), (4,), "at least 2 classes"),
        ((4, 1), (4,), "at least 2 classes"),
        ((4, 3), (4, 3), r"labels of shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("loss", [Hinge(), SoftmaxCrossEntropy()], ids=lambda loss: loss.type)
def test_shapes_that_do_not_fit_are_refused(loss, scores, labels, said):
    with pytest.raises(ValueError, match=said):
        loss.infer(scores, labels)


def test_a_loss_of_values_takes_targets_like_the_scores():
    graph = with_loss(build_classifier([ReLU()], 3), AbsoluteError())
    assert graph.shapes(7)["targets"] == (7, 3)
    assert graph.shapes(7)["loss"] == (7,)
