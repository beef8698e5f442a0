"""The check of a large network: it takes few forward passes, and still finds an error in one entry."""

import numpy as np
import pytest

from core import Linear, ReLU, SoftmaxCrossEntropy, build_classifier, with_loss
from core.gradcheck import check
from core.gradcheck.check import check_graph
from tests.core.gradcheck.planting import change

FEATURES, UNITS, ROWS = 96, 1024, 4


def one_weight(call):
    """One of the 98,304 weights is off by 1 %."""
    call.out[1][50, 7] *= 1.01


def two_weights(call):
    """The error of one is the opposite of the other's, so that they cancel where both move equally far."""
    error = call.upstream.sum()
    call.out[1][3, 5] += error
    call.out[1][90, 1000] -= error


def one_bias(call):
    call.out[2][600] *= 1.01


def one_input(call):
    if call.out[0] is not None:
        call.out[0][2, 90] *= 1.01


def samples():
    random = np.random.default_rng(0)
    return {"features": random.standard_normal((ROWS, FEATURES)), "labels": np.arange(ROWS) % 3}


def network(layer):
    return with_loss(build_classifier([layer, Linear(units=3)], FEATURES), SoftmaxCrossEntropy())


@pytest.mark.parametrize(
    ("wrong", "tensor", "index"),
    [
        (one_weight, "0_linear.weight", (50, 7)),
        (two_weights, "0_linear.weight", None),
        (one_bias, "0_linear.bias", (600,)),
        (one_input, "features", (2, 90)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_one_direction_finds_an_error_in_one_entry(monkeypatch, wrong, tensor, index):
    monkeypatch.setattr(check, "LARGE_WORK", 0)
    report = check_graph(network(change(Linear(units=UNITS), "backward", wrong)), "loss", samples())
    assert not report.ok
    found = [each for each in report.tensors if not each.ok]
    assert [each.name for each in found] == [tensor]
    assert found[0].index == (index or found[0].index)
    assert found[0].total == 1


def test_what_does_not_depend_on_a_variable_is_not_computed_again(monkeypatch):
    passes = {"narrow": 0, "wide": 0}
    forward = Linear.forward

    def counted(self, xp, inputs, output, workspace):
        passes["wide" if self.units > 3 else "narrow"] += 1
        forward(self, xp, inputs, output, workspace)

    monkeypatch.setattr(Linear, "forward", counted)
    graph = with_loss(build_classifier([Linear(units=64), ReLU(), Linear(units=3)], 6), SoftmaxCrossEntropy())
    inputs = {"features": np.random.default_rng(0).standard_normal((ROWS, 6)), "labels": np.arange(ROWS) % 3}
    monkeypatch.setattr(check, "WHOLE_WORK", 0)  # the 195 parameters of the last layer by directions
    check_graph(graph, "loss", inputs).assert_ok()
    # Two of the five variables belong to the last layer, and take at least one stencil of four points for a direction.
    assert passes["narrow"] - passes["wide"] >= 2 * 4 * check.DIRECTIONS - 10


def test_entries_are_not_checked_one_by_one_where_forward_is_large(monkeypatch):
    passes = 0
    forward = Linear.forward

    def counted(self, xp, inputs, output, workspace):
        nonlocal passes
        passes += 1
        forward(self, xp, inputs, output, workspace)

    monkeypatch.setattr(Linear, "forward", counted)
    check_graph(network(Linear(units=UNITS)), "loss", samples()).assert_ok()
    # One by one, the 1,024 biases alone would take 4,096.
    assert passes < 400
