"""Auxiliary heads: they train with the model, and nothing else depends on them."""

import numpy as np
import pytest

from core import (
    Entry,
    Head,
    Linear,
    Model,
    ModelError,
    Plan,
    Program,
    ReLU,
    SoftmaxCrossEntropy,
    SquaredError,
    build_classifier,
    loss_weights,
    summary,
    to_mermaid,
    with_loss,
)
from core.gradcheck.model import check_model
from core.gradcheck.report import Outcome

LAYERS = [Entry(Linear(units=6), name="stem"), Entry(ReLU(), name="half"), Linear(units=5), ReLU(), Linear(units=3)]
FIRST = Head("half", (Entry(Linear(units=3)),), 0.3, "early")
SECOND = Head("stem", (Entry(Linear(units=4), name="hidden"), Entry(ReLU()), Entry(Linear(units=3))), 0.25)


def model(*heads, layers=LAYERS):
    return build_classifier(layers, 4, heads)


def test_layers_of_heads_are_named_and_grouped():
    graph = with_loss(model(FIRST, SECOND), SoftmaxCrossEntropy())
    assert list(graph.nodes)[5:] == [
        "early", "head_1_hidden", "head_1_1_relu", "head_1", "loss", "loss/early", "loss/head_1",
    ]  # fmt: skip
    assert graph.nodes["early"].inputs == ("half",)
    assert graph.nodes["loss/head_1"].inputs == ("head_1", "labels")
    assert loss_weights(graph) == {"loss": 1.0, "loss/early": 0.3, "loss/head_1": 0.25}
    assert ["head_1", "head", "stem", "(batch,", "3)", "43"] in [line.split() for line in summary(graph).splitlines()]
    assert "head_1_hidden" not in to_mermaid(graph)
    assert "head_1_hidden" in to_mermaid(graph, expanded=True)


def plan_of(graph, outputs, *, backward):
    plan = Plan(Program.compile(graph, outputs, batch=8, dtype=np.float64, backward=backward))
    random = np.random.default_rng(1)
    tensors = plan.layout.views(plan.parameters)
    for name in sorted(tensors):
        tensors[name][...] = np.random.default_rng(list(name.encode())).normal(size=tensors[name].shape)
    plan.inputs["features"][...] = random.normal(size=(8, 4))
    if "labels" in plan.inputs:
        plan.inputs["labels"][...] = random.integers(0, 3, 8)
    plan.forward()
    return plan


def test_gradients_are_the_weighted_sum_of_those_of_each_loss():
    graph = with_loss(model(FIRST, SECOND), SoftmaxCrossEntropy())
    plan = plan_of(graph, tuple(loss_weights(graph)), backward=True)
    expected = np.zeros_like(plan.gradients)
    for name, weight in loss_weights(graph).items():
        plan.backward({name: 1.0})
        expected += weight * plan.gradients
    plan.backward(loss_weights(graph))
    np.testing.assert_allclose(plan.gradients, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    assert all(gradient.any() for gradient in plan.layout.views(plan.gradients).values())


def test_a_prediction_computes_no_head():
    with_heads, plain = model(FIRST, SECOND), model()
    program = Program.compile(with_heads, ("scores",), batch=8, backward=False)
    assert [step.name for step in program.instructions] == ["stem", "half", "2_linear", "3_relu", "scores"]
    scores = [plan_of(graph, ("scores",), backward=False).value("scores") for graph in (with_heads, plain)]
    np.testing.assert_array_equal(*scores)
    assert Model(with_heads).plan(8).program.nbytes == Model(plain).plan(8).program.nbytes


def test_the_gradient_check_covers_heads():
    graph = with_loss(model(FIRST, SECOND), SoftmaxCrossEntropy())
    report = check_model(graph)
    report.assert_ok()
    checked = {tensor.name for tensor in report.tensors}
    assert {"early.weight", "head_1_hidden.bias", "scores.weight", "stem.weight"} <= checked
    assert all(tensor.outcome is Outcome.RIGHT for tensor in report.tensors)
    assert "loss/sum" not in graph.nodes


def test_the_gradient_check_finds_a_fault_in_a_head():
    class Wrong(ReLU):
        def backward(self, xp, upstream, inputs, output, workspace, gradients):
            super().backward(xp, upstream, inputs, output, workspace, gradients)
            gradients[0][...] *= 1.001

    head = Head("half", (Entry(Wrong()), Entry(Linear(units=3))))
    assert not check_model(with_loss(model(head), SoftmaxCrossEntropy())).ok


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), SquaredError()], ids=lambda loss: loss.type)
def test_heads_have_the_loss_and_the_targets_of_the_model(loss):
    graph = with_loss(model(FIRST), loss)
    target = graph.nodes["loss"].inputs[1]
    assert graph.nodes["loss/early"].inputs == ("early", target)
    assert graph.nodes["loss/early"].node is graph.nodes["loss"].node


LINEAR = Entry(Linear(units=3))
WRONG = {
    "an unknown layer": (Head("stme", (LINEAR,)), "heads.1.reads", "did you mean 'stem'?"),
    "a layer of a head": (Head("early", (LINEAR,)), "heads.1.reads", "these are features, stem, half"),
    "no layers": (Head("stem", ()), "heads.1.layers", "at least one layer"),
    "a reserved name": (Head("stem", (LINEAR,), name="loss"), "heads.1.name", "reserved"),
    "a name of a layer": (Head("stem", (LINEAR,), name="half"), "heads.1.name", "already taken"),
    "a name of another head": (Head("stem", (LINEAR,), name="early"), "heads.1.name", "already taken"),
    "an unknown input": (
        Head("stem", (LINEAR, Entry(ReLU(), inputs=("stem",)))), "heads.1.layers.1.inputs", "these are input, 0_linear",
    ),
    "another shape": (Head("stem", (LINEAR, Entry(Linear(units=2)))), "heads.1.layers.1", "(2,), but those of"),
    "an unused layer": (
        Head("stem", (LINEAR, Entry(Linear(units=3), inputs=("input",)))), "heads.1.layers.0", "no layer reads",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_error_names_the_head_and_the_field(case):
    head, path, words = WRONG[case]
    with pytest.raises(ModelError) as caught:
        model(FIRST, head)
    assert caught.value.path == path
    assert words in str(caught.value)


def test_json_round_trip_of_a_head():
    assert Head.from_json(SECOND.to_json()) == SECOND
    assert Head.from_json({"reads": "x", "layers": [{"type": "relu"}]}) == Head("x", (Entry(ReLU()),))
    assert FIRST.to_json()["name"] == "early"
