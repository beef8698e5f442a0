"""Training ends at the optimum that scikit-learn finds: with the engine alone, in float64, on all rows at once."""

import numpy as np
import pytest
from sklearn import linear_model
from sklearn.datasets import load_breast_cancer, load_diabetes

from core import (
    L1,
    L2,
    SGD,
    Cosine,
    Huber,
    Linear,
    Plan,
    Program,
    SigmoidCrossEntropy,
    SoftMargin,
    SquaredError,
    Step,
    Zeros,
    build_classifier,
    with_loss,
)


def standardized(features):
    return (features - features.mean(axis=0)) / features.std(axis=0)


DIABETES = load_diabetes()
FEATURES, VALUES = standardized(DIABETES.data), DIABETES.target / DIABETES.target.std()
CANCER = load_breast_cancer()
# A column of ten, so that the features are not nearly collinear.
CELLS, LABELS = standardized(CANCER.data[:, :10]), CANCER.target
STEPS = 4000


def train(loss, penalty, features, truth, lr):
    """Return the weights and the bias after gradient descent with momentum."""
    rows, columns = features.shape
    graph = with_loss(build_classifier([Linear(units=1, weight=Zeros())], columns), loss)
    plan = Plan(Program.compile(graph, ("loss",), batch=rows, dtype=np.float64))
    plan.parameters[...] = 0
    plan.inputs["features"][...] = features
    name = "labels" if "labels" in plan.inputs else "targets"
    plan.inputs[name][...] = truth.reshape(plan.inputs[name].shape)
    optimizer = SGD(lr=lr, momentum=0.95, nesterov=True, schedule=Cosine())
    state = {"velocity": np.zeros_like(plan.parameters)}
    scratch = np.empty_like(plan.parameters)
    for step in range(STEPS):
        plan.forward()
        plan.backward({"loss": 1.0})
        plan.gradients /= rows
        for start, stop in plan.layout.penalized:
            penalty.add_gradient(np, plan.parameters[start:stop], plan.gradients[start:stop], scratch[: stop - start])
        rate = optimizer.learning_rate(step, STEPS, 1)
        optimizer.update(np, plan.parameters, plan.gradients, state, scratch, Step(rate, step + 1))
    views = plan.layout.views(plan.parameters)
    return views["scores.weight"].ravel(), views["scores.bias"][0]


def compare(objective, fitted, weights, bias, rtol):
    """Compare the values of scikit-learn's objective at both solutions. That of the engine may also be lower."""
    best = objective(np.ravel(fitted.coef_), np.ravel(fitted.intercept_)[0])
    assert objective(weights, bias) == pytest.approx(best, rel=rtol)
    # It is an optimum and not any point.
    assert objective(0.9 * weights, bias) > best * (1 + 1e-3)


def test_ridge():
    alpha, rows = 20.0, len(VALUES)
    fitted = linear_model.Ridge(alpha=alpha).fit(FEATURES, VALUES)
    found = train(SquaredError(), L2(weight=alpha / rows), FEATURES, VALUES, lr=0.02)
    compare(lambda w, b: ((FEATURES @ w + b - VALUES) ** 2).sum() + alpha * w @ w, fitted, *found, rtol=1e-6)


def test_lasso():
    alpha, rows = 0.05, len(VALUES)
    fitted = linear_model.Lasso(alpha=alpha, tol=1e-12, max_iter=100_000).fit(FEATURES, VALUES)
    weights, bias = train(SquaredError(), L1(weight=2 * alpha), FEATURES, VALUES, lr=0.02)

    def objective(w, b):
        return ((FEATURES @ w + b - VALUES) ** 2).sum() / (2 * rows) + alpha * abs(w).sum()

    compare(objective, fitted, weights, bias, rtol=1e-4)
    zero = fitted.coef_ == 0
    assert 0 < zero.sum() < 10
    assert abs(weights[zero]).max() < 1e-3 < abs(weights[~zero]).min()


def test_huber():
    alpha, epsilon, rows = 2.0, 1.2, len(VALUES)
    fitted = linear_model.HuberRegressor(epsilon=epsilon, alpha=alpha, tol=1e-10, max_iter=10_000)
    fitted.fit(FEATURES, VALUES)
    scale = fitted.scale_
    penalty = L2(weight=alpha * scale / (2 * rows))
    found = train(Huber(delta=epsilon * scale), penalty, FEATURES, VALUES, lr=0.05)

    def objective(w, b):
        z = abs(FEATURES @ w + b - VALUES) / scale
        terms = np.where(z <= epsilon, z**2, 2 * epsilon * z - epsilon**2)
        return rows * scale + scale * terms.sum() + alpha * w @ w

    compare(objective, fitted, *found, rtol=1e-6)


@pytest.mark.parametrize("loss", [SoftMargin(), SigmoidCrossEntropy()], ids=lambda loss: loss.type)
def test_logistic_regression_of_two_classes_with_one_score(loss):
    c, rows = 0.5, len(LABELS)
    fitted = linear_model.LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(CELLS, LABELS)
    found = train(loss, L2(weight=1 / (2 * c * rows)), CELLS, LABELS, lr=0.2)

    def objective(w, b):
        z = (2 * LABELS - 1) * (CELLS @ w + b)
        return c * np.logaddexp(0, -z).sum() + w @ w / 2

    compare(objective, fitted, *found, rtol=1e-6)
    right = ((CELLS @ found[0] + found[1] > 0) == LABELS).mean()
    assert right == fitted.score(CELLS, LABELS)
