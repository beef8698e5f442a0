"""Losses and their gradients against the definitions, per sample, in exact or high-precision arithmetic."""

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    BATCH,
    AbsoluteError,
    BinaryMargin,
    Graph,
    GraphError,
    Hinge,
    Huber,
    Linear,
    MeanSquaredError,
    Plan,
    Program,
    ReLU,
    SigmoidCrossEntropy,
    SmoothL1,
    SoftMargin,
    SoftmaxCrossEntropy,
    SquaredError,
    WeightedSum,
    build_classifier,
    with_loss,
)
from tests.core.fixtures import direct


def evaluate(loss, scores, labels, dtype=np.float64):
    """Return the losses and their gradients for an upstream gradient of one."""
    graph = Graph()
    scores = np.asarray(scores, dtype)
    graph.input("scores", (BATCH, scores.shape[1]))
    graph.input("labels", (BATCH,), integer=True)
    graph.add("loss", loss, "scores", "labels")
    plan = Plan(Program.compile(graph, ("loss",), batch=len(scores), dtype=dtype, wrt=("scores",)))
    plan.inputs["scores"][...] = scores
    plan.inputs["labels"][...] = labels
    plan.forward()
    plan.backward({"loss": 1.0})
    return plan.value("loss"), plan.gradient("scores")


def softmax_reference(scores, label):
    """Return loss and gradient in decimal arithmetic with 60 digits, in which exp does not overflow."""
    with localcontext() as context:
        context.prec = 60
        exponentials = [Decimal(float(score)).exp() for score in scores]
        total = sum(exponentials)
        others = total - exponentials[label]
        gradient = [each / total for each in exponentials]
        gradient[label] = -others / total
        # The series of ln(1 + x), where x is so small that 1 + x needs more than 60 digits.
        ratio = others / exponentials[label]
        loss = ratio - ratio**2 / 2 if ratio < Decimal("1e-25") else (1 + ratio).ln()
        return float(loss), [float(each) for each in gradient]


def hinge_reference(scores, label, loss):
    """Return loss and gradient in exact arithmetic."""
    exact, margin = [Fraction(float(score)) for score in scores], Fraction(loss.margin)
    others = [j for j in range(len(scores)) if j != label]
    # Each term and its derivative with respect to the scores, 1 or -1.
    if loss.form == "one_vs_all":
        terms = [(margin + exact[j], {j: 1}) for j in others] + [(margin - exact[label], {label: -1})]
    else:
        terms = [(exact[j] - exact[label] + margin, {j: 1, label: -1}) for j in others]
    share = Fraction(1)
    if loss.form == "crammer_singer":
        largest = max(value for value, _ in terms)
        terms = [term for term in terms if term[0] == largest]
        share = Fraction(1, len(terms))
    total, gradient = Fraction(0), [Fraction(0)] * len(scores)
    for value, slopes in terms:
        if value > 0:
            total += share * (value**2 if loss.squared else value)
            for j, slope in slopes.items():
                gradient[j] += share * slope * (2 * value if loss.squared else 1)
    return float(total), [float(each) for each in gradient]


def batches(largest):
    """Draw scores that are exact in float32, and labels."""
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
@settings(deadline=None)
@given(data=st.data())
def test_softmax_is_accurate(dtype, digits, largest, data):
    scores, labels = zip(*data.draw(batches(largest)), strict=True)
    value, gradient = evaluate(SoftmaxCrossEntropy(), scores, labels, dtype)
    reference = [softmax_reference(each, label) for each, label in zip(scores, labels, strict=True)]
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(value, [loss for loss, _ in reference], rtol=digits, atol=tiny)
    np.testing.assert_allclose(gradient, [slope for _, slope in reference], rtol=20 * digits, atol=tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_scores_with_large_differences(dtype):
    far = [[1e4, -1e4, 0], [1e4, -1e4, 0], [0, -np.inf, -np.inf], [5, -20, -20]]
    value, gradient = evaluate(SoftmaxCrossEntropy(), far, [0, 1, 0, 0], dtype)
    np.testing.assert_allclose(value, [0, 2e4, 0, 2 * np.exp(-25)], rtol=1e-6)
    np.testing.assert_allclose(gradient[:3], [[0, 0, 0], [1, -1, 0], [0, 0, 0]])
    np.testing.assert_allclose(gradient[3], [-2 * np.exp(-25), np.exp(-25), np.exp(-25)], rtol=1e-5)


def test_softmax_of_a_class_with_probability_zero_is_infinite():
    value, gradient = evaluate(SoftmaxCrossEntropy(), [[-np.inf, 0.0]], [0])
    assert value == [np.inf]
    assert gradient.tolist() == [[-1, 1]]


@pytest.mark.parametrize("form", ["weston_watkins", "crammer_singer", "one_vs_all"])
@pytest.mark.parametrize("squared", [False, True])
@settings(deadline=None)
@given(data=batches(16), margin=st.sampled_from([0.25, 1.0, 3.0]))
def test_hinge_forms(form, squared, data, margin):
    scores, labels = zip(*data, strict=True)
    # Multiples of 1/8 are exact in float64, so the examples include ties and terms of exactly 0.
    scores = np.round(np.array(scores) * 8) / 8
    loss = Hinge(margin=margin, form=form, squared=squared)
    value, gradient = evaluate(loss, scores, labels)
    reference = [hinge_reference(each, label, loss) for each, label in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(value, [one for one, _ in reference], rtol=1e-15)
    np.testing.assert_allclose(gradient, [slope for _, slope in reference], rtol=1e-15)


def test_crammer_singer_of_the_largest_scores():
    # The loss is more than float32 can hold. The gradients are what they are for smaller scores.
    with np.errstate(over="ignore"):
        value, gradient = evaluate(Hinge(form="crammer_singer"), [[-3e38, 3e38, 0, 3e38]], [0], np.float32)
    assert value.tolist() == [np.inf]
    assert gradient.tolist() == [[-1, 0.5, 0, 0.5]]


def test_ties_of_crammer_singer_divide_the_gradient_equally():
    value, gradient = evaluate(
        Hinge(form="crammer_singer"), [[1.0, 2.0, 2.0], [2.0, 1.0, 1.0], [2.5, 1.0, 1.0]], [0] * 3
    )
    assert value.tolist() == [2, 0, 0]
    assert gradient.tolist() == [[-1, 0.5, 0.5], [0, 0, 0], [0, 0, 0]]


def test_hinge_gradient_at_the_kink_is_zero():
    value, gradient = evaluate(Hinge(), [[3.0, 2.0, 2.0], [3.0, np.nextafter(2.0, 3), 2.0]], [0, 0])
    assert gradient.tolist() == [[0, 0, 0], [-1, 1, 0]]
    assert value[0] == 0 < value[1]


def test_hinge_of_tied_scores():
    value, gradient = evaluate(Hinge(), [[1.0, 1.0, 1.0]], [1])
    assert value == [2]
    assert gradient.tolist() == [[1, -2, 1]]


def slopes(node, inputs, upstream):
    """Return the gradients from calling backward directly, with float64 arrays."""
    output = np.empty(node.infer(*(each.shape for each in inputs)))
    workspace = {name: np.empty(shape) for name, (shape, _) in node.workspace(*(x.shape for x in inputs)).items()}
    node.forward(np, inputs, output, workspace)
    gradients = [np.empty_like(each) for each in inputs]
    node.backward(np, upstream, inputs, output, workspace, gradients)
    return gradients


def test_relu_gradient_at_zero_is_zero():
    x = np.array([-0.0, 0.0, 5e-324, -5e-324])
    (gradient,) = slopes(ReLU(), [x], np.array([3.0, 4.0, 5.0, 6.0]))
    assert gradient.tolist() == [0, 0, 5, 0]


def test_absolute_error_gradient_at_zero_is_zero():
    x, y = slopes(AbsoluteError(), [np.array([[1.0, 2.0]]), np.array([[1.0, 3.0]])], np.array([2.0]))
    assert (x.tolist(), y.tolist()) == ([[0, -2]], [[0, 2]])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ((4,), (4,), "at least 2 classes"),
        ((4, 1), (4,), "at least 2 classes"),
        ((4, 3), (4, 3), r"labels of shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("loss", [Hinge(), SoftmaxCrossEntropy()], ids=lambda loss: loss.type)
def test_invalid_shapes_raise(loss, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        loss.infer(scores, labels)


def test_targets_of_a_regression_loss_have_the_shape_of_the_scores():
    graph = with_loss(build_classifier([ReLU()], 3), AbsoluteError())
    assert graph.shapes(7)["targets"] == (7, 3)
    assert graph.shapes(7)["loss"] == (7,)


@pytest.mark.parametrize(
    ("loss", "scores", "task", "name", "shape"),
    [
        (Hinge(), 3, None, "labels", (7,)),
        (SoftMargin(), 1, None, "labels", (7,)),
        (Huber(), 1, None, "targets", (7, 1)),
        (SigmoidCrossEntropy(), 1, None, "labels", (7,)),
        (SigmoidCrossEntropy(), 1, "multilabel", "targets", (7, 1)),
        (SigmoidCrossEntropy(), 3, "multilabel", "targets", (7, 3)),
        (SigmoidCrossEntropy(), 3, "classification", "labels", (7,)),
    ],
    ids=str,
)
def test_the_task_decides_the_second_input(loss, scores, task, name, shape):
    graph = with_loss(build_classifier([Linear(units=scores)], 2), loss, task)
    assert {**graph.shapes(7)}[name] == shape
    assert graph.inputs[name].integer == (name == "labels")


def test_a_task_that_is_not_clear_or_not_of_the_loss_raises():
    with pytest.raises(GraphError, match=r"\(batch, 3\) is a loss for classification and multilabel: name the task"):
        with_loss(build_classifier([Linear(units=3)], 2), SigmoidCrossEntropy())
    with pytest.raises(GraphError, match="sigmoid_cross_entropy is a loss for binary or classification or multilabel"):
        with_loss(build_classifier([Linear(units=3)], 2), SigmoidCrossEntropy(), "regression")
    with pytest.raises(GraphError, match="huber is a loss for regression, not for classification"):
        with_loss(build_classifier([Linear(units=3)], 2), Huber(), "classification")


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_label_smoothing(smoothing):
    scores = np.random.default_rng(0).normal(0, 3, (6, 4))
    labels = np.array([0, 1, 2, 3, 0, 1])
    value, gradient = evaluate(SoftmaxCrossEntropy(label_smoothing=smoothing), scores, labels)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value, -(target * np.log(shares)).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(gradient, shares - target, rtol=1e-12, atol=1e-14)


def test_label_smoothing_of_the_largest_scores():
    # The smoothed loss is 0.01 of 6e38, and 6e38 is not a float32.
    loss = SoftmaxCrossEntropy(label_smoothing=0.02)
    with np.errstate(over="ignore"):
        value, gradient = evaluate(loss, [[3e38, -3e38]], [0], np.float32)
    np.testing.assert_allclose(value, [6e36], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.01, -0.01]], rtol=1e-6)


def test_label_smoothing_of_scores_with_large_differences():
    value, gradient = evaluate(SoftmaxCrossEntropy(label_smoothing=0.1), [[1e4, -1e4], [-1e4, 1e4]], [0, 0], np.float32)
    np.testing.assert_allclose(value, [1000, 19000], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.05, -0.05], [-0.95, 0.95]], rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [SoftmaxCrossEntropy(), Hinge(), Hinge(form="one_vs_all", squared=True), SigmoidCrossEntropy()], ids=str
)
def test_class_weights_multiply_each_sample(loss):
    scores = np.random.default_rng(0).normal(0, 2, (6, 3))
    labels = np.array([0, 1, 2, 2, 1, 0])
    value, gradient = evaluate(loss, scores, labels)
    weighted, weighted_gradient = evaluate(loss.replace(class_weights=(2, 0, 0.5)), scores, labels)
    weights = np.array([2, 0, 0.5, 0.5, 0, 2])
    np.testing.assert_allclose(weighted, weights * value, rtol=1e-15)
    np.testing.assert_allclose(weighted_gradient, weights[:, None] * gradient, rtol=1e-14)


def test_wrong_number_of_class_weights_raises():
    with pytest.raises(ValueError, match=r"hinge\.class_weights must have one number for each of 3 classes, not 2"):
        Hinge(class_weights=(1, 2)).infer((5, 3), (5,))
    with pytest.raises(ValueError, match=r"soft_margin\.class_weights must have .* each of 2 classes, not 1"):
        SoftMargin(class_weights=(1,)).infer((5, 1), (5,))


def binary(loss, scores, labels, dtype=np.float64):
    return direct.evaluate(loss, np.array(scores, dtype), np.array(labels), dtype=dtype)


@pytest.mark.parametrize("loss", [SigmoidCrossEntropy(), SoftMargin()], ids=lambda loss: loss.type)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logistic_losses_are_accurate(loss, dtype):
    scores, labels = [0.0, 3.0, 3.0, 40.0, 1e4, 1e4, -1e4], [1, 1, 0, 1, 1, 0, 0]
    z = [(1 if label else -1) * Decimal(score) for score, label in zip(scores, labels, strict=True)]
    with localcontext() as context:
        context.prec = 60
        expected = [float((1 + (-each).exp()).ln()) if each > -999 else -float(each) for each in z]
        slopes = [float(-(1 if y else -1) / (1 + each.exp())) for each, y in zip(z, labels, strict=True)]
    value, gradient = binary(loss, scores, labels, dtype)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-300)
    column, column_gradient = binary(loss, [[each] for each in scores], labels, dtype)
    np.testing.assert_array_equal(column, value)
    np.testing.assert_array_equal(column_gradient[:, 0], gradient)


def test_sigmoid_cross_entropy_is_one_against_the_rest():
    scores = np.random.default_rng(0).normal(0, 2, (5, 3))
    labels = np.array([0, 1, 2, 1, 0])
    value, gradient = binary(SigmoidCrossEntropy(), scores, labels)
    shares, target = 1 / (1 + np.exp(-scores)), np.eye(3)[labels]
    expected = -(target * np.log(shares) + (1 - target) * np.log(1 - shares)).sum(axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, shares - target, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("largest", [1, 30, 1e4, np.inf])
def test_targets_of_one_label_have_the_bits_of_the_label(dtype, largest):
    random = np.random.default_rng(0)
    scores = np.clip(random.normal(0, min(largest, 1e5), (50, 4)), -largest, largest).astype(dtype)
    scores[random.random(scores.shape) < 0.1] = largest
    labels = random.integers(0, 4, 50)
    of_labels = direct.evaluate(SigmoidCrossEntropy(), scores, labels, upstream=3.0, dtype=dtype)
    of_targets = direct.evaluate(SigmoidCrossEntropy(), scores, np.eye(4)[labels], upstream=3.0, dtype=dtype)
    for one, other in zip(of_labels, of_targets[:2], strict=True):
        assert one.tobytes() == other.tobytes()


def test_targets_of_several_labels():
    random = np.random.default_rng(0)
    # With targets between 0 and 1 too, and 1/2, the farthest from both.
    scores, targets = random.normal(0, 3, (40, 3)), random.choice([0, 1, 0.25, 0.5, 0.9], (40, 3))
    value, gradient, target_gradient = direct.evaluate(SigmoidCrossEntropy(), scores, targets)
    shares = 1 / (1 + np.exp(-scores))
    expected = -(targets * np.log(shares) + (1 - targets) * np.log(1 - shares)).sum(axis=1)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, shares - targets, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(target_gradient, -scores)


@pytest.mark.parametrize(
    ("loss", "scores", "targets", "message"),
    [
        (SigmoidCrossEntropy(), (4, 3), (4, 2), r"labels of shape \(4,\), or .* not \(4, 3\) and \(4, 2\)"),
        (SigmoidCrossEntropy(), (4,), (4, 1), r"not \(4,\) and \(4, 1\)"),
        (SigmoidCrossEntropy(), (4, 2, 3), (4, 2, 3), r"equal shape \(batch, K\)"),
        (SigmoidCrossEntropy(class_weights=(1, 2)), (4, 2), (4, 2), r"class_weights are for one label per sample"),
        (SoftMargin(), (4, 1), (4, 1), r"labels of shape \(4,\)"),
    ],
    ids=str,
)
def test_invalid_targets_of_labels_raise(loss, scores, targets, message):
    with pytest.raises(ValueError, match=message):
        loss.infer(scores, targets)


def test_binary_margin_gradient_at_the_kink_is_zero():
    below = np.nextafter(1, 0)
    value, gradient = binary(BinaryMargin(), [1.0, below, -1.0, -below, 3.0, 0.5], [1, 1, 0, 0, 0, 1])
    assert value.tolist() == [0, 1 - below, 0, 1 - below, 4, 0.5]
    assert gradient.tolist() == [0, -1, 0, 1, 1, -1]


@pytest.mark.parametrize(
    ("loss", "value", "slope"),
    [
        (SquaredError(), [0, 0.25, 1, 9], [0, 1, -2, 6]),
        (MeanSquaredError(), [0, 0.25, 1, 9], [0, 1, -2, 6]),
        (AbsoluteError(), [0, 0.5, 1, 3], [0, 1, -1, 1]),
        (Huber(), [0, 0.125, 0.5, 2.5], [0, 0.5, -1, 1]),
        (Huber(delta=2), [0, 0.125, 0.5, 4], [0, 0.5, -1, 2]),
        (SmoothL1(), [0, 0.125, 0.5, 2.5], [0, 0.5, -1, 1]),
        (SmoothL1(beta=2), [0, 0.0625, 0.25, 2], [0, 0.25, -0.5, 1]),
    ],
    ids=lambda each: "" if isinstance(each, list) else str(each),
)
def test_regression_losses(loss, value, slope):
    """Values for differences of 0, 1/2, -1 and 3. At -1 the two pieces of the Huber loss meet."""
    predictions, targets = np.array([1.0, 1.5, 0.0, 4.0]), np.ones(4)
    got, x_gradient, t_gradient = direct.evaluate(loss, predictions, targets, upstream=2.0)
    assert got.tolist() == value
    assert x_gradient.tolist() == [2 * each for each in slope]
    assert t_gradient.tolist() == [-2 * each for each in slope]
    # With two entries per sample, the loss is their sum or their mean.
    got, x_gradient, _ = direct.evaluate(loss, predictions.reshape(2, 2), targets.reshape(2, 2))
    entries = 2 if isinstance(loss, MeanSquaredError) else 1
    assert got.tolist() == [(value[0] + value[1]) / entries, (value[2] + value[3]) / entries]
    assert x_gradient.ravel().tolist() == [each / entries for each in slope]


def test_weighted_sum_of_losses():
    scores = np.random.default_rng(0).normal(0, 2, (5, 3))
    labels = np.array([0, 1, 2, 1, 0])
    inner = WeightedSum(losses=(Hinge(), SoftmaxCrossEntropy()), weights=(0.5, 2))
    value, gradient = evaluate(WeightedSum(losses=(inner, SigmoidCrossEntropy()), weights=(3, -1)), scores, labels)
    parts = [evaluate(loss, scores, labels) for loss in (Hinge(), SoftmaxCrossEntropy(), SigmoidCrossEntropy())]
    factors = (1.5, 6, -1)
    np.testing.assert_allclose(value, sum(f * v for f, (v, _) in zip(factors, parts, strict=True)), rtol=1e-13)
    slopes = sum(f * g for f, (_, g) in zip(factors, parts, strict=True))
    np.testing.assert_allclose(gradient, slopes, rtol=1e-12, atol=1e-14)


def test_targets_and_validation_of_a_weighted_sum():
    assert WeightedSum(losses=(Hinge(),), weights=(1,)).tasks == {"classification"}
    assert WeightedSum(losses=(SoftMargin(), SigmoidCrossEntropy()), weights=(1, 1)).tasks == {"binary"}
    values = WeightedSum(losses=(SquaredError(), Huber()), weights=(1, 2))
    graph = with_loss(build_classifier([ReLU()], 3), values)
    assert graph.shapes(7)["targets"] == (7, 3)
    with pytest.raises(ValueError, match=r"task in common, not hinge \(classification\), huber \(regression\)"):
        WeightedSum(losses=(Hinge(), Huber()), weights=(1, 1))
    with pytest.raises(ValueError, match=r"weighted_sum\.weights must have one number for each of 1 losses, not 2"):
        WeightedSum(losses=(Hinge(),), weights=(1, 1))
    with pytest.raises(ValueError, match=r"weighted_sum\.losses must have at least one loss"):
        WeightedSum(losses=(), weights=())
