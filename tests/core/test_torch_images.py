"""Compares a network of GoogLeNet's kind with PyTorch: its loss and every gradient, in float64."""

import numpy as np
import pytest

from core import (
    LRN,
    Concat,
    Conv2d,
    Entry,
    Linear,
    MaxPool2d,
    Mean,
    Plan,
    Program,
    ReLU,
    SoftmaxCrossEntropy,
    build_classifier,
    initialize,
    with_loss,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'gradfleet[bench]'")
F = torch.nn.functional

ROWS, CLASSES = 3, 5
# Filters of 1 x 1, before 3 x 3, of 3 x 3, before 5 x 5, of 5 x 5, and after pooling.
MODULES = {"a": (4, 6, 8, 2, 4, 4), "b": (6, 8, 10, 3, 6, 4), "c": (8, 6, 12, 2, 4, 4)}


def inception(name, source, filters):
    """Return the entries of a module that reads `source`. The last one has its name."""
    one, before_three, three, before_five, five, pooled = filters

    def conv(part, units, kernel, *inputs):
        layer = Conv2d(filters=units, kernel=kernel, padding="same")
        return [Entry(layer, f"{name}_{part}", inputs), Entry(ReLU(), f"{name}_{part}_relu")]

    return [
        *conv("1", one, 1, source),
        *conv("3_before", before_three, 1, source),
        *conv("3", three, 3, f"{name}_3_before_relu"),
        *conv("5_before", before_five, 1, source),
        *conv("5", five, 5, f"{name}_5_before_relu"),
        Entry(MaxPool2d(kernel=3, stride=1, padding=1), f"{name}_pool", (source,)),
        *conv("after", pooled, 1, f"{name}_pool"),
        Entry(Concat(), name, tuple(f"{name}_{part}_relu" for part in ("1", "3", "5", "after"))),
    ]


LAYERS = [
    Entry(Conv2d(filters=6, kernel=7, stride=2, padding=3), "stem"),
    Entry(MaxPool2d(kernel=3, stride=2, ceil=True), "pool"),
    Entry(LRN(alpha=0.1), "lrn"),
    Entry(Conv2d(filters=8, kernel=3, padding="same", groups=2), "second"),
    *inception("a", "second", MODULES["a"]),
    *inception("b", "a", MODULES["b"]),
    Entry(MaxPool2d(kernel=3, stride=2, ceil=True), "middle"),
    *inception("c", "middle", MODULES["c"]),
    Entry(Mean(axes=(1, 2)), "mean"),
    Linear(units=CLASSES),
]


def loss_of_pytorch(x, labels, parameters):
    def conv(name, values, **options):
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        return F.conv2d(values, weight.permute(3, 2, 0, 1), bias, **options)

    def module(name, values):
        def active(part, values, padding=0):
            return F.relu(conv(f"{name}_{part}", values, padding=padding))

        parts = [
            active("1", values),
            active("3", active("3_before", values), 1),
            active("5", active("5_before", values), 2),
            active("after", F.max_pool2d(values, 3, stride=1, padding=1)),
        ]
        return torch.cat(parts, 1)

    values = conv("stem", x.permute(0, 3, 1, 2), stride=2, padding=3)
    values = F.max_pool2d(values, 3, stride=2, ceil_mode=True)
    values = F.local_response_norm(values, 5, alpha=0.1)
    values = conv("second", values, padding=1, groups=2)
    values = F.max_pool2d(module("b", module("a", values)), 3, stride=2, ceil_mode=True)
    scores = module("c", values).mean((2, 3)) @ parameters["scores.weight"] + parameters["scores.bias"]
    return F.cross_entropy(scores, labels, reduction="sum")


def test_loss_and_every_gradient_of_inception_modules():
    graph = with_loss(build_classifier(LAYERS, (37, 34, 3)), SoftmaxCrossEntropy())
    plan = Plan(Program.compile(graph, ("loss",), batch=ROWS, dtype=np.float64, wrt=("features",)))
    plan.parameters[...] = initialize(plan.layout, 0, np.float64)
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(ROWS, 37, 34, 3)), random.integers(0, CLASSES, ROWS)
    plan.inputs["features"][...], plan.inputs["labels"][...] = x, labels
    plan.forward()
    plan.backward({"loss": 1.0})
    ours = plan.layout.views(plan.gradients) | {"features": plan.gradient("features")}

    theirs = {name: torch.tensor(view, requires_grad=True) for name, view in plan.layout.views(plan.parameters).items()}
    theirs["features"] = torch.tensor(x, requires_grad=True)
    loss = loss_of_pytorch(theirs["features"], torch.from_numpy(labels), theirs)
    loss.backward()
    np.testing.assert_allclose(plan.value("loss").sum(), loss.item(), rtol=1e-12)
    assert len(ours) == 2 * (2 + 3 * 6 + 1) + 1
    for name, gradient in ours.items():
        other = theirs[name].grad.numpy()
        assert np.abs(other).max() > 0, name
        np.testing.assert_allclose(gradient, other, rtol=1e-10, atol=1e-12 * np.abs(other).max(), err_msg=name)
