"""Compares GoogLeNet, from the model zoo, with PyTorch: its losses and the gradient of every parameter, in float64."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from core import (
    Head,
    Plan,
    Program,
    RandomKey,
    SoftmaxCrossEntropy,
    build_classifier,
    entry_from_spec,
    initialize,
    loss_weights,
    with_loss,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-torch installs it")
F = torch.nn.functional

SPEC = Path(__file__).parents[2] / "docs" / "examples" / "models" / "googlenet.yaml"
ROWS, CLASSES = 2, 1000
# Smaller than the published 224 x 224. Of the heads' means, the lower ones reach beyond the image.
IMAGE = (96, 80, 3)
HEADS = {"loss1": "4a", "loss2": "4d"}
DROPPED = {"22_dropout": 0.4, "loss1_6_dropout": 0.7, "loss2_6_dropout": 0.7}
HEAD_WEIGHT = 0.3
# Entries far smaller than the largest of their tensor are sums that cancel: both round at the size of their terms, and
# differ there by up to 2e-15 of the largest entry, which is up to 2e-9 of an entry itself.
RTOL, OF_LARGEST = 1e-10, 1e-13


def loss_of_pytorch(x, labels, parameters, kept):
    """Return the loss of each output, without weights; `kept` is what dropout keeps, in the order of `DROPPED`."""
    kept = dict(zip(DROPPED, map(torch.from_numpy, kept), strict=True))

    def conv(name, values, **options):
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        return F.relu(F.conv2d(values, weight.permute(3, 2, 0, 1), bias, **options))

    def linear(name, values):
        return values @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]

    def drop(name, values):
        return values * kept[name] / (1 - DROPPED[name])

    def pool(values):
        return F.max_pool2d(values, 3, stride=2, ceil_mode=True)

    def normalize(values):
        return F.local_response_norm(values, 5, alpha=1e-4, beta=0.75, k=1)

    def inception(name, values):
        branches = [
            conv(f"{name}_1x1", values),
            conv(f"{name}_3x3", conv(f"{name}_3x3_reduce", values), padding=1),
            conv(f"{name}_5x5", conv(f"{name}_5x5_reduce", values), padding=2),
            conv(f"{name}_pool_proj", F.max_pool2d(values, 3, stride=1, padding=1)),
        ]
        return torch.cat(branches, 1)

    def head(name, values):
        values = conv(f"{name}_1_conv2d", F.avg_pool2d(values, 5, stride=3, ceil_mode=True))
        flat = values.permute(0, 2, 3, 1).flatten(1)  # channels last, as here
        return linear(name, drop(f"{name}_6_dropout", F.relu(linear(f"{name}_4_linear", flat))))

    values = normalize(pool(conv("0_conv2d", x.permute(0, 3, 1, 2), stride=2, padding=3)))
    values = pool(normalize(conv("6_conv2d", conv("4_conv2d", values), padding=1)))
    outputs = {}
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if name in ("4a", "5a"):
            values = pool(values)
        values = outputs[name] = inception(name, values)
    scores = {"loss": linear("scores", drop("22_dropout", values.mean((2, 3))))}
    scores |= {f"loss/{name}": head(name, outputs[reads]) for name, reads in HEADS.items()}
    return {name: F.cross_entropy(each, labels, reduction="none") for name, each in scores.items()}


def test_losses_and_every_gradient_of_googlenet():
    model = yaml.safe_load(SPEC.read_text())["model"]
    layers, heads = map(entry_from_spec, model["layers"]), map(Head.from_json, model["heads"])
    graph = with_loss(build_classifier(list(layers), IMAGE, list(heads)), SoftmaxCrossEntropy())
    weights = loss_weights(graph)
    outputs = (*weights, *DROPPED)
    plan = Plan(Program.compile(graph, outputs, batch=ROWS, dtype=np.float64, wrt=("features",)))
    plan.parameters[...] = initialize(plan.layout, 0, np.float64)
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(ROWS, *IMAGE)), random.integers(0, CLASSES, ROWS)
    plan.inputs["features"][...], plan.inputs["labels"][...] = x, labels
    plan.forward(RandomKey(0))
    kept = [plan.value(name) != 0 for name in DROPPED]
    losses = {name: plan.value(name).copy() for name in weights}
    plan.backward(weights)
    ours = plan.layout.views(plan.gradients) | {"features": plan.gradient("features")}

    theirs = {name: torch.tensor(view, requires_grad=True) for name, view in plan.layout.views(plan.parameters).items()}
    theirs["features"] = torch.tensor(x, requires_grad=True)
    expected = loss_of_pytorch(theirs["features"], torch.from_numpy(labels), theirs, kept)
    sum(loss.sum() * (1 if name == "loss" else HEAD_WEIGHT) for name, loss in expected.items()).backward()
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        np.testing.assert_allclose(loss, expected[name].detach().numpy(), rtol=RTOL, err_msg=name)
    # Three convolutions, six of each of nine modules, a linear layer, and three layers of each head.
    assert len(ours) == 2 * (3 + 9 * 6 + 1 + 2 * 3) + 1
    for name, gradient in ours.items():
        other = theirs[name].grad.numpy()
        assert np.abs(other).max() > 0, name
        np.testing.assert_allclose(gradient, other, rtol=RTOL, atol=OF_LARGEST * np.abs(other).max(), err_msg=name)
