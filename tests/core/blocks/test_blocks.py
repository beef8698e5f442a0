"""Blocks: the layers that they stand for, and the errors of wrong ones."""

import pickle
from math import prod

import numpy as np
import pytest

from core import (
    Linear,
    ModelError,
    Plan,
    Program,
    Repeat,
    Residual,
    SoftmaxCrossEntropy,
    build_classifier,
    entry_from_spec,
    reads_images,
    registered,
    summary,
    with_loss,
)
from core.gradcheck.check import check_graph
from core.graph.entries import PLACE, Entry

LINEAR = {"type": "linear", "units": 4}
SCORES = {"type": "linear", "units": 3}
RELU = {"type": "relu"}
INCEPTION = {
    "type": "inception",
    "filters_1x1": 3,
    "filters_3x3_reduce": 2,
    "filters_3x3": 4,
    "filters_5x5_reduce": 3,
    "filters_5x5": 2,
    "filters_pool": 2,
}
IMAGE = {"type": "reshape", "shape": [4, 5, 2]}


def model(layers, features=4):
    return build_classifier([entry_from_spec(layer) for layer in layers], features)


def conv(filters, kernel, **place):
    return {"type": "conv2d", "filters": filters, "kernel": kernel, "padding": kernel // 2, **place}


# Models with blocks, the same models without, and the number of their features.
EQUAL = {
    "repeat": (
        [{"type": "repeat", "times": 3, "layers": [LINEAR, {"type": "tanh"}]}, SCORES],
        [*[LINEAR, {"type": "tanh"}] * 3, SCORES],
        4,
    ),
    "repeated branches": (
        [
            {
                "type": "repeat",
                "times": 2,
                "layers": [{**LINEAR, "name": "a"}, RELU, {"type": "add", "inputs": ["1_relu", "input", "a"]}],
            },
            SCORES,
        ],
        [
            {**LINEAR, "name": "a"}, RELU, {"type": "add", "inputs": ["1_relu", "features", "a"], "name": "first"},
            {**LINEAR, "name": "b"}, {**RELU, "name": "r"}, {"type": "add", "inputs": ["r", "first", "b"]},
            SCORES,
        ],
        4,
    ),
    "shared parameters in a block": (
        [{"type": "repeat", "times": 2, "layers": [{**LINEAR, "name": "a"}, RELU, {**LINEAR, "share": "a"}]}, SCORES],
        [
            {**LINEAR, "name": "a"}, RELU, {**LINEAR, "share": "a"},
            {**LINEAR, "name": "b"}, RELU, {**LINEAR, "share": "b"},
            SCORES,
        ],
        4,
    ),
    "residual": (
        [{**LINEAR, "name": "stem"}, {"type": "residual", "layers": [LINEAR, RELU]}, SCORES],
        [{**LINEAR, "name": "stem"}, LINEAR, RELU, {"type": "add", "inputs": ["2_relu", "stem"]}, SCORES],
        4,
    ),
    "residual with a shortcut": (
        [{"type": "residual", "layers": [LINEAR, RELU], "shortcut": [LINEAR]}, SCORES],
        [LINEAR, RELU, {**LINEAR, "inputs": ["features"]}, {"type": "add", "inputs": ["1_relu", "2_linear"]}, SCORES],
        4,
    ),
    "dense": (
        [{"type": "dense", "times": 3, "layers": [LINEAR, RELU]}, SCORES],
        [
            LINEAR, RELU, {"type": "concat", "inputs": ["features", "1_relu"]},
            LINEAR, RELU, {"type": "concat", "inputs": ["features", "1_relu", "4_relu"]},
            LINEAR, RELU, {"type": "concat", "inputs": ["features", "1_relu", "4_relu", "7_relu"]},
            SCORES,
        ],
        4,
    ),
    "inception": (
        [IMAGE, INCEPTION, {"type": "flatten"}, SCORES],
        [
            {**IMAGE, "name": "x"},
            conv(3, 1), {**RELU, "name": "one"},
            conv(2, 1, inputs=["x"]), RELU, conv(4, 3), {**RELU, "name": "three"},
            conv(3, 1, inputs=["x"]), RELU, conv(2, 5), {**RELU, "name": "five"},
            {"type": "max_pool2d", "kernel": 3, "stride": 1, "padding": 1, "inputs": ["x"]}, conv(2, 1),
            {**RELU, "name": "pool"},
            {"type": "concat", "inputs": ["one", "three", "five", "pool"]},
            {"type": "flatten"}, SCORES,
        ],
        40,
    ),
    "blocks in blocks": (
        [
            {
                "type": "repeat",
                "times": 2,
                "layers": [{"type": "residual", "layers": [{"type": "repeat", "times": 2, "layers": [LINEAR]}]}, RELU],
            },
            SCORES,
        ],
        [
            LINEAR, LINEAR, {"type": "add", "inputs": ["1_linear", "features"]}, {**RELU, "name": "half"},
            LINEAR, LINEAR, {"type": "add", "inputs": ["5_linear", "half"]}, RELU,
            SCORES,
        ],
        4,
    ),
    "a block for the scores": ([{"type": "repeat", "times": 2, "layers": [LINEAR]}], [LINEAR, LINEAR], 4),
}  # fmt: skip
each_pair = pytest.mark.parametrize("case", EQUAL)


def scores_of(graph, features):
    """Return scores with parameters that depend on the order of the layers in the spec alone."""
    plan = Plan(Program.compile(graph, ("scores",), batch=6, dtype=np.float64, backward=False))
    random = np.random.default_rng(0)
    plan.inputs["features"][...] = random.normal(size=(6, features))
    tensors = plan.layout.views(plan.parameters)
    for name in graph.nodes:
        for parameter in (each for each in plan.layout.names if each.rpartition(".")[0] == name):
            tensors[parameter][...] = random.normal(size=tensors[parameter].shape)
    plan.forward()
    return plan.value("scores").copy()


@each_pair
def test_a_block_is_the_layers_that_it_stands_for(case):
    blocks, layers, features = EQUAL[case]
    folded, plain = model(blocks, features), model(layers, features)
    assert sorted(prod(each.shape) for each in folded.parameters()) == sorted(
        prod(each.shape) for each in plain.parameters()
    )
    np.testing.assert_allclose(scores_of(folded, features), scores_of(plain, features), rtol=1e-12)


@each_pair
def test_the_size_is_the_number_of_layers(case):
    blocks, _, features = EQUAL[case]
    graph = model(blocks, features)
    assert sum(entry_from_spec(layer).size() for layer in blocks) == len(graph.nodes)


@each_pair
def test_gradients_of_blocks(case):
    blocks, _, features = EQUAL[case]
    random = np.random.default_rng(1)
    inputs = {"features": random.normal(size=(3, features)), "labels": random.integers(0, 3, 3)}
    check_graph(with_loss(model(blocks, features), SoftmaxCrossEntropy()), "loss", inputs).assert_ok()


def test_names_begin_with_that_of_the_block_and_its_last_layer_has_it():
    inner = {"type": "residual", "layers": [LINEAR, {**RELU, "name": "out"}], "shortcut": [LINEAR]}
    graph = model([{"type": "repeat", "times": 2, "layers": [inner], "name": "s"}, SCORES])
    assert list(graph.nodes) == [
        "s_0_0_residual_layers_0_linear",
        "s_0_0_residual_layers",
        "s_0_0_residual_shortcut",
        "s_0",
        "s_1_0_residual_layers_0_linear",
        "s_1_0_residual_layers",
        "s_1_0_residual_shortcut",
        "s",
        "scores",
    ]
    assert graph.groups["s"].type == "repeat"
    assert graph.groups["s"].nodes == tuple(graph.nodes)[:-1]
    assert list(model([LINEAR, INCEPTION | {"inputs": ["2_reshape"]}, IMAGE][:1]).nodes) == ["scores"]


def test_a_size_is_known_without_the_layers(monkeypatch):
    monkeypatch.setattr(Repeat, "entries", lambda _: pytest.fail("the block is expanded"))
    block = Entry(Linear(units=3))
    for _ in range(8):
        block = Entry(Repeat(layers=(block,), times=1000))
    assert (block.size(), block.depth()) == (10**24, 8)


def test_types_of_layers_and_blocks_differ_and_no_field_is_that_of_a_place():
    assert registered("layer").keys().isdisjoint(registered("block"))
    for cls in registered("block").values():
        assert PLACE.isdisjoint(cls.annotations)


def repeated(*layers, **place):
    return [{**LINEAR, "name": "stem"}, {"type": "repeat", "times": 2, "layers": list(layers), **place}, SCORES]


SHORTCUT = {"type": "residual", "layers": [LINEAR], "shortcut": [RELU, {"type": "linear", "units": 5}]}

WRONG = {
    "an unknown input in a block": (
        repeated({**LINEAR, "name": "left"}, {**RELU, "inputs": ["lefft"]}),
        1, "layers.1.inputs", "these are input, left; did you mean 'left'?",
    ),
    "a layer outside as an input": (
        repeated({**LINEAR, "inputs": ["stem"]}), 1, "layers.0.inputs", "'stem', which is not an earlier layer",
    ),
    "the features as an input in a block": (
        repeated({**LINEAR, "inputs": ["features"]}), 1, "layers.0.inputs", "these are input",
    ),
    "a later input in a block": (
        repeated({**LINEAR, "inputs": ["1_relu"]}, RELU), 1, "layers.0.inputs", "comes later",
    ),
    "a layer inside as an input": (
        [*repeated(LINEAR, name="s")[:2], {**SCORES, "inputs": ["s_0"]}], 2, "inputs", "these are features, stem, s",
    ),
    "two inputs of a block": (
        repeated(LINEAR, inputs=["stem", "features"]), 1, "inputs", "block '1_repeat' takes 1 input, not 2",
    ),
    "shapes in a block": (
        repeated({"type": "linear", "units": 5}, {"type": "add", "inputs": ["0_linear", "input"]}),
        1, "layers.1", "node '1_repeat_0', which reads 1_repeat_0_0_linear, stem: add needs",
    ),
    "shapes in a block of a block": (
        repeated(RELU, {"type": "residual", "layers": [LINEAR, {"type": "repeat", "times": 2, "layers": [IMAGE]}]}),
        1, "layers.1.layers.1.layers.0", "'1_repeat_0_1_residual_layers_1_repeat_0'",
    ),
    "shapes in a shortcut": (
        [{**SHORTCUT, "shortcut": [RELU, IMAGE]}, SCORES], 0, "shortcut.1", "'0_residual_shortcut'",
    ),
    "a shortcut of another shape": ([SHORTCUT, SCORES], 0, None, "'0_residual', which reads"),
    "a kernel larger than the image in a block": (
        [{"type": "reshape", "shape": [2, 2, 1]},
         {"type": "repeat", "times": 1, "layers": [conv(3, 9) | {"padding": 0}]}, {"type": "flatten"}, SCORES],
        1, "layers.0", "'1_repeat', which reads 0_reshape: conv2d",
    ),
    "no images for inception": ([INCEPTION, SCORES], 0, None, "'0_inception_1x1', which reads features: conv2d needs"),
    "an unused layer in a block": (
        repeated(LINEAR, {**RELU, "inputs": ["input"]}), 1, "layers.0", "no layer reads '1_repeat_0_0_linear'",
    ),
    "an unused block": ([*repeated(LINEAR)[:2], {**SCORES, "inputs": ["stem"]}], 1, None, "no layer reads '1_repeat'"),
    "a duplicate name in a block": (
        repeated({**LINEAR, "name": "a"}, {**RELU, "name": "a"}),
        1, "layers.1.name", "the name 'a' is already taken by layer 0",
    ),
    "a name that a block's layer has": (
        [{**LINEAR, "name": "1_repeat_0"}, *repeated(LINEAR)[1:]], 1, None, "'1_repeat_0' is already taken",
    ),
    "a reserved name in a block": (repeated({**LINEAR, "name": "input"}, RELU), 1, "layers.0.name", "reserved"),
    "a name with a dot in a block": (repeated({**LINEAR, "name": "a.b"}, RELU), 1, "layers.0.name", "dot"),
    "parameters of a block": (
        [{"type": "repeat", "times": 1, "layers": [LINEAR], "name": "s"}, {**LINEAR, "share": "s"}],
        1, "share", "'s', which is a block",
    ),
    "a block that shares": (repeated(LINEAR, share="stem"), 1, "share", "block '1_repeat' cannot share"),
    "shared parameters of another shape in a block": (
        repeated({**LINEAR, "name": "a"}, {"type": "linear", "units": 5}, {**LINEAR, "share": "a"}),
        1, "layers.2", "1_repeat_0_a.weight of shape (5, 4)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_error_has_the_entry_and_the_place_in_the_block(case):
    layers, entry, field, words = WRONG[case]
    with pytest.raises(ModelError) as caught:
        model(layers)
    assert (caught.value.entry, caught.value.field) == (entry, field)
    assert caught.value.path == (f"layers.{entry}" if field is None else f"layers.{entry}.{field}")
    assert words in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).path == caught.value.path


@pytest.mark.parametrize("name", ["repeat", "residual", "dense"])
def test_a_block_without_layers_raises(name):
    with pytest.raises(ValueError, match=rf"{name}\.layers must have at least one layer"):
        entry_from_spec({"type": name, "layers": [], **({} if name == "residual" else {"times": 2})})


def test_wrong_layers_of_a_block_raise():
    with pytest.raises(ValueError, match=r"linear\.unit is not a field"):
        entry_from_spec({"type": "repeat", "times": 2, "layers": [{"type": "linear", "unit": 3}]})
    with pytest.raises(TypeError, match=r"repeat\.layers\[0\] must be a layer or a block, not 'relu'"):
        entry_from_spec({"type": "repeat", "times": 2, "layers": ["relu"]})


FAST = {"bias": {"learning_rate": 2, "decay": 0}}


def test_multipliers_of_a_block_are_for_its_layers_that_have_no_others():
    own = {"bias": {"learning_rate": 3}}
    block = {"type": "repeat", "times": 2, "layers": [LINEAR, RELU, LINEAR | {"multipliers": own}], "multipliers": FAST}
    inner = {"type": "repeat", "times": 1, "layers": [LINEAR], "multipliers": {"weight": {"learning_rate": 5}}}
    outer = {"type": "residual", "layers": [inner], "multipliers": FAST | {"weight": {"learning_rate": 7}}}
    graph = model([block, outer, SCORES])
    rates = {each.name: each.learning_rate for each in graph.parameters()}
    assert rates == {
        "0_repeat_0_0_linear.weight": 1, "0_repeat_0_0_linear.bias": 2, "0_repeat_0.weight": 1, "0_repeat_0.bias": 3,
        "0_repeat_1_0_linear.weight": 1, "0_repeat_1_0_linear.bias": 2, "0_repeat.weight": 1, "0_repeat.bias": 3,
        "1_residual_layers.weight": 5, "1_residual_layers.bias": 2, "scores.weight": 1, "scores.bias": 1,
    }  # fmt: skip


def test_multipliers_of_an_inception_block_and_of_a_parameter_that_no_layer_has():
    graph = model([IMAGE, INCEPTION | {"multipliers": FAST}, {"type": "flatten"}, SCORES], 40)
    assert [each.learning_rate for each in graph.parameters()] == [1, 2] * 6 + [1, 1]
    with pytest.raises(ModelError) as caught:
        model([IMAGE, INCEPTION | {"multipliers": {"bais": FAST["bias"]}}, {"type": "flatten"}, SCORES], 40)
    assert caught.value.path == "layers.1.multipliers"
    assert "trained parameters of its layers are bias, weight; did you mean 'bias'?" in str(caught.value)


def test_images_are_needed_where_the_first_layer_of_a_block_needs_them():
    image, flat = entry_from_spec(conv(2, 3)), entry_from_spec(LINEAR)
    assert reads_images([entry_from_spec(INCEPTION), flat])
    assert reads_images([Repeat(layers=(Entry(Repeat(layers=(image,), times=2)),), times=3), flat])
    assert reads_images([Residual(layers=(flat,), shortcut=(image,)), flat])
    assert not reads_images([Repeat(layers=(flat, image), times=2), flat])
    assert not reads_images([flat, Repeat(layers=(image,), times=2)])


def test_a_model_with_blocks_has_a_table():
    assert "0_repeat" in summary(model(EQUAL["repeat"][0]))
