"""Each row of docs/definitions.md: where a definition differs from PyTorch's or scikit-learn's, and by which factor."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import linear_model, metrics

from core import (
    GELU,
    L1,
    L2,
    ROCAUC,
    SGD,
    AbsoluteError,
    AdamW,
    AveragePrecision,
    BatchNorm,
    Conv2d,
    Flatten,
    Hinge,
    Huber,
    LeakyReLU,
    Linear,
    MultistepDecay,
    NormClipping,
    ParameterLayout,
    Plan,
    PolynomialDecay,
    Program,
    Reshape,
    SigmoidCrossEntropy,
    SmoothL1,
    SoftMargin,
    SoftmaxCrossEntropy,
    Softplus,
    SquaredError,
    Step,
    StepDecay,
    build_classifier,
    initialize,
    registered,
    update_statistics,
    with_loss,
)
from tests.core.fixtures.direct import evaluate

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"
random = np.random.default_rng(0)
SCORES, LABELS = random.normal(0, 2, (30, 4)), random.integers(0, 4, 30)
TARGETS, MARKS = random.normal(0, 2, (30, 4)), random.integers(0, 2, (30, 4)).astype(float)
FEATURES, BINARY = random.normal(size=(30, 3)), random.integers(0, 2, 30)
VALUES = FEATURES @ [1.0, 0.1, -2.0] + 3 + random.normal(size=30)
WEIGHTS = (1, 2, 0.5, 3)


def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gradfleet[bench]'")


def mean(loss, predictions, truth):
    return evaluate(loss, predictions, truth)[0].mean()


def peer(name, predictions, truth, **options):
    """Return the value of a loss of PyTorch with its default reduction."""
    loss = getattr(torch().nn, name)(**options)
    return loss(torch().from_numpy(predictions), torch().from_numpy(truth)).item()


def close(one, other, rtol=1e-12):
    np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-14)


def hinge_of_pytorch():
    close(mean(Hinge(), SCORES, LABELS), 4 * peer("MultiMarginLoss", SCORES, LABELS))
    close(mean(Hinge(squared=True), SCORES, LABELS), 4 * peer("MultiMarginLoss", SCORES, LABELS, p=2))


def hinge_of_scikit_learn():
    close(mean(Hinge(form="crammer_singer"), SCORES, LABELS), metrics.hinge_loss(LABELS, SCORES))


def sums_over_targets():
    pairs = {
        "MSELoss": SquaredError(),
        "L1Loss": AbsoluteError(),
        "HuberLoss": Huber(),
        "SmoothL1Loss": SmoothL1(beta=1),
    }
    for name, loss in pairs.items():
        close(mean(loss, SCORES, TARGETS), 4 * peer(name, SCORES, TARGETS))


def sigmoid_cross_entropy():
    close(mean(SigmoidCrossEntropy(), SCORES, MARKS), 4 * peer("BCEWithLogitsLoss", SCORES, MARKS))


def huber_of_scikit_learn():
    # At the solution of HuberRegressor, with the scale that it learnt, the gradient of this Huber loss is zero.
    fitted = linear_model.HuberRegressor(epsilon=1.5, alpha=0, tol=1e-9, max_iter=1000).fit(FEATURES, VALUES)
    residuals = fitted.predict(FEATURES) - VALUES
    _, gradient, _ = evaluate(Huber(delta=1.5 * fitted.scale_), residuals, np.zeros(30))
    np.testing.assert_allclose(FEATURES.T @ gradient, 0, atol=1e-4)
    # Its loss of a difference of z scales is z², or 2 epsilon |z| - epsilon².
    z = residuals / fitted.scale_
    theirs = np.where(abs(z) <= 1.5, z**2, 3 * abs(z) - 1.5**2)
    close(2 * evaluate(Huber(delta=1.5), z, np.zeros(30))[0], theirs)


def class_weights():
    ours = mean(SoftmaxCrossEntropy(class_weights=WEIGHTS), SCORES, LABELS)
    theirs = peer("CrossEntropyLoss", SCORES, LABELS, weight=torch().tensor(WEIGHTS, dtype=torch().float64))
    close(ours, theirs * np.take(WEIGHTS, LABELS).mean())


def class_weights_and_label_smoothing():
    weight = torch().tensor(WEIGHTS, dtype=torch().float64)
    smoothed = SoftmaxCrossEntropy(label_smoothing=0.2)
    ours = evaluate(smoothed.replace(class_weights=WEIGHTS), SCORES, LABELS)[0]
    close(ours, np.take(WEIGHTS, LABELS) * evaluate(smoothed, SCORES, LABELS)[0])
    loss = torch().nn.CrossEntropyLoss(weight=weight, label_smoothing=0.2, reduction="none")
    theirs = loss(torch().from_numpy(SCORES), torch().from_numpy(LABELS)).numpy()
    logarithms = np.log(np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True))
    close(theirs, -((0.8 * np.eye(4)[LABELS] + 0.05) * WEIGHTS * logarithms).sum(axis=1))
    assert not np.allclose(ours, theirs)


def activation(node, name, **options):
    """Return the values of a layer and of PyTorch's, at points from -30 to 30."""
    x = np.linspace(-30, 30, 601)[:, None]
    return evaluate(node, x)[0], getattr(torch().nn, name)(**options)(torch().from_numpy(x)).numpy()


def leaky_relu():
    close(*activation(LeakyReLU(slope=0.01), "LeakyReLU"))
    close(*activation(LeakyReLU(), "LeakyReLU", negative_slope=0.1))


def gelu():
    close(*activation(GELU(), "GELU", approximate="tanh"))
    ours, theirs = activation(GELU(), "GELU")
    assert 1e-4 < abs(ours - theirs).max() < 5e-4


def softplus():
    ours, theirs = activation(Softplus(), "Softplus")
    assert 1e-9 < abs(ours - theirs).max() < 2.1e-9
    close(*activation(Softplus(), "Softplus", threshold=1e9))


def linear():
    torch().manual_seed(0)
    other = torch().nn.Linear(100, 2000)
    layout = ParameterLayout(build_classifier([Linear(units=2000)], 100).parameters())
    ours = layout.views(initialize(layout, 0, np.float64))
    assert ours["scores.weight"].shape == tuple(other.weight.T.shape)
    assert not ours["scores.bias"].any()
    assert abs(other.bias.detach().numpy()).max() == pytest.approx(0.1, rel=0.01)
    assert ours["scores.weight"].std() == pytest.approx(np.sqrt(6) * other.weight.std().item(), rel=0.01)


def conv2d():
    torch().manual_seed(0)
    other = torch().nn.Conv2d(12, 2000, (2, 3))
    layers = [Conv2d(filters=2000, kernel=(2, 3)), Flatten(), Linear(units=1)]
    layout = ParameterLayout(build_classifier([Reshape(shape=(2, 3, 12)), *layers], 72).parameters())
    ours = layout.views(initialize(layout, 0, np.float64))
    weight = ours["1_conv2d.weight"]
    assert weight.shape == tuple(other.weight.permute(2, 3, 1, 0).shape)
    assert not ours["1_conv2d.bias"].any()
    assert weight.std() == pytest.approx(np.sqrt(6) * other.weight.std().item(), rel=0.01)


def batch_norm():
    graph = build_classifier([BatchNorm(momentum=1)], 3)
    plan = Plan(Program.compile(graph, ("scores",), batch=30, dtype=np.float64))
    plan.parameters[...] = initialize(plan.layout, 0, np.float64)
    plan.inputs["features"][...] = FEATURES
    plan.forward()
    plan.backward({"scores": 1.0})
    plan.gradients /= 30
    update_statistics(np, plan.layout, plan.parameters, plan.gradients)
    other = torch().nn.BatchNorm1d(3, momentum=1, dtype=torch().float64)
    other(torch().from_numpy(FEATURES))
    views = plan.layout.views(plan.parameters)
    close(views["scores.variance"], 29 / 30 * other.running_var.numpy())
    close(views["scores.mean"], other.running_mean.numpy())


def step_of(optimizer, make_peer, penalty=None, clipping=None, **options):
    """Return weights and biases after a step, here and in PyTorch, both with a gradient of 3."""
    ours, gradient = np.array([2.0, 2.0]), np.array([3.0, 3.0])
    if penalty is not None:
        penalty.add_gradient(np, ours[:1], gradient[:1], np.empty(1))
    if clipping is not None:
        clipping.clip(np, gradient, float(np.linalg.norm(gradient)))
    state = {slot: np.zeros(2) for slot in optimizer.slots}
    optimizer.update(np, ours, gradient, state, np.empty(2), Step(optimizer.lr, 1), [(0, 1)])
    theirs = torch().full((2,), 2.0, dtype=torch().float64, requires_grad=True)
    theirs.grad = torch().full((2,), 3.0, dtype=torch().float64)
    if clipping is not None:
        torch().nn.utils.clip_grad_norm_([theirs], clipping.limit)
    make_peer([theirs], lr=optimizer.lr, **options).step()
    return ours, theirs.detach().numpy()


def adamw():
    ours, theirs = step_of(AdamW(lr=0.1, weight_decay=0.5), torch().optim.AdamW, weight_decay=0.5)
    close(ours[0], theirs[0])
    close(ours[1], theirs[1] + 0.1 * 0.5 * 2)


def weight_decay():
    ours, theirs = step_of(SGD(lr=0.1), torch().optim.SGD, penalty=L2(weight=0.25), weight_decay=0.5)
    close(ours[0], theirs[0])
    close(ours[1], theirs[1] + 0.1 * 0.5 * 2)


def clipping():
    ours, theirs = step_of(
        SGD(lr=0.1), torch().optim.SGD, penalty=L2(weight=0.25), clipping=NormClipping(limit=1), weight_decay=0.5
    )
    # The gradients are (3 + 1, 3), of norm 5; PyTorch clips (3, 3) and adds the decay to both afterwards.
    close(ours, 2 - 0.1 * np.array([4, 3]) / 5)
    close(theirs, 2 - 0.1 * (3 / np.sqrt(18) + 1), rtol=1e-6)


def gradient_of_weights(loss, truth, fitted, penalty):
    """Return the gradient of the mean loss and the penalty at the coefficients that scikit-learn found."""
    scores = np.size(fitted.intercept_)
    graph = with_loss(build_classifier([Linear(units=scores)], 3), loss)
    plan = Plan(Program.compile(graph, ("loss",), batch=30, dtype=np.float64))
    views, slopes = plan.layout.views(plan.parameters), plan.layout.views(plan.gradients)
    views["scores.weight"][...] = np.reshape(fitted.coef_, (3, scores))
    views["scores.bias"][...] = fitted.intercept_
    plan.inputs["features"][...] = FEATURES
    name = "labels" if "labels" in plan.inputs else "targets"
    plan.inputs[name][...] = truth.reshape(plan.inputs[name].shape)
    plan.forward()
    plan.backward({"loss": 1.0})
    plan.gradients /= 30
    weights = views["scores.weight"].ravel()
    penalty.add_gradient(np, weights, slopes["scores.weight"].reshape(-1), np.empty(weights.size))
    return slopes["scores.weight"].ravel(), slopes["scores.bias"]


def logistic_regression():
    fitted = linear_model.LogisticRegression(C=0.7, tol=1e-12, max_iter=1000).fit(FEATURES, BINARY)
    for gradient in gradient_of_weights(SoftMargin(), BINARY, fitted, L2(weight=1 / (2 * 0.7 * 30))):
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def logistic_regression_with_two_scores():
    fitted = linear_model.LogisticRegression(C=0.7, tol=1e-12, max_iter=1000).fit(FEATURES, BINARY)
    # At the optimum the columns of the weights are opposite.
    halves = SimpleNamespace(coef_=fitted.coef_.T * [-0.5, 0.5], intercept_=fitted.intercept_ * [-0.5, 0.5])
    for gradient in gradient_of_weights(SoftmaxCrossEntropy(), BINARY, halves, L2(weight=1 / (0.7 * 30))):
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def ridge():
    fitted = linear_model.Ridge(alpha=5).fit(FEATURES, VALUES)
    for gradient in gradient_of_weights(SquaredError(), VALUES, fitted, L2(weight=5 / 30)):
        np.testing.assert_allclose(gradient, 0, atol=1e-12)


def lasso():
    fitted = linear_model.Lasso(alpha=0.3, tol=1e-14, max_iter=100_000).fit(FEATURES, VALUES)
    weights, bias = gradient_of_weights(SquaredError(), VALUES, fitted, L1(weight=0.6))
    # Where a weight is zero, the gradient of the loss is smaller than that of the penalty.
    assert (abs(weights[fitted.coef_ == 0]) < 0.6).all()
    assert 0 < np.count_nonzero(fitted.coef_) < 3
    np.testing.assert_allclose(weights[fitted.coef_ != 0], 0, atol=1e-7)
    np.testing.assert_allclose(bias, 0, atol=1e-12)


def step_decay():
    weight = torch().zeros(1, requires_grad=True)
    optimizer = torch().optim.SGD([weight], lr=1)
    schedule, rates = torch().optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1), []
    for _ in range(5):
        for _ in range(3):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        schedule.step()
    close([StepDecay(every_epochs=2).factor(step, 15, 3) for step in range(15)], rates)
    close([StepDecay(every=6).factor(step, 15, 3) for step in range(15)], rates)


def rates_of_pytorch(schedule, **settings):
    optimizer = torch().optim.SGD([torch().zeros(1, requires_grad=True)], lr=1)
    torchs, rates = getattr(torch().optim.lr_scheduler, schedule)(optimizer, **settings), []
    for _ in range(15):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        torchs.step()
    return rates


def multistep():
    rates = rates_of_pytorch("MultiStepLR", milestones=[2, 3, 11], gamma=0.5)
    close([MultistepDecay(at=(2, 3, 11), decay=0.5).factor(step, 15, 3) for step in range(15)], rates)
    close([MultistepDecay(at_epochs=(2, 3, 11), decay=0.5).factor(3 * step, 45, 3) for step in range(15)], rates)


def poly():
    rates = rates_of_pytorch("PolynomialLR", total_iters=15, power=0.5)
    close([PolynomialDecay(power=0.5).factor(step, 15, 3) for step in range(15)], rates)


def roc_auc():
    marks = MARKS.copy()
    marks[:, 1], marks[:, 2] = 0, 1
    close(ROCAUC().value(SCORES, marks), metrics.roc_auc_score(marks[:, [0, 3]], SCORES[:, [0, 3]]))


def average_precision():
    marks = MARKS.copy()
    marks[:, 1] = 0
    with pytest.warns(UserWarning, match="No positive class found"):
        theirs = metrics.average_precision_score(marks, SCORES)
    close(AveragePrecision().value(SCORES, marks), theirs * 4 / 3)


def figures_of_label_1():
    truth, score = np.array([0, 0, 0, 1, 1]), np.array([[-2.0], [-1], [3], [1], [-4]])
    peers = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}
    for scores in (score, np.hstack([-score, score])):
        for name, theirs in peers.items():
            metric = registered("metric")[name]()
            sums = np.zeros(metric.tally.columns(scores.shape[1]))
            metric.tally.add(np, scores, truth, sums)
            close(metric.value(sums, 5), theirs(truth, score[:, 0] > 0, average="binary"))
        close(AveragePrecision().value(scores, truth), metrics.average_precision_score(truth, score[:, 0]))


# In the order of the table.
CHECKS = [
    hinge_of_pytorch, hinge_of_scikit_learn, sums_over_targets, sigmoid_cross_entropy, huber_of_scikit_learn,
    class_weights, class_weights_and_label_smoothing, leaky_relu, gelu, softplus, linear, conv2d, batch_norm, adamw,
    weight_decay, logistic_regression, logistic_regression_with_two_scores, ridge, lasso, clipping, step_decay,
    multistep, poly, figures_of_label_1, roc_auc, average_precision,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_row(check):
    check()


def test_every_row_of_the_table_is_checked():
    rows = re.findall(r"^\| `.*", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(CHECKS)
