import json
import pickle

import numpy as np
import pytest

from core import (
    BATCH,
    Add,
    Entry,
    Graph,
    GraphError,
    Hinge,
    Linear,
    ModelError,
    Plan,
    Program,
    ReLU,
    build_classifier,
    check_inputs,
    entry_from_spec,
    initialize,
    reads_images,
    registered,
    to_spec,
    with_loss,
)
from core.gradcheck.check import check_graph
from core.graph.entries import PLACE

# A small inception block: a stem, two branches of different depth, a concatenation and a residual sum.
BRANCHES = [
    {"type": "linear", "units": 6, "name": "stem"},
    {"type": "relu", "name": "left"},
    {"type": "linear", "units": 4, "name": "right", "inputs": ["stem"]},
    {"type": "sigmoid"},
    {"type": "concat", "inputs": ["left", "3_sigmoid"]},
    {"type": "linear", "units": 6},
    {"type": "add", "inputs": ["5_linear", "stem"]},
    {"type": "linear", "units": 3},
]


def model(layers, features=5):
    return build_classifier([entry_from_spec(layer) for layer in layers], features)


def changed(entry, **fields):
    """Return BRANCHES with fields of one entry changed."""
    layers = [dict(layer) for layer in BRANCHES]
    layers[entry] |= fields
    return layers


def test_branches_are_connected_by_name():
    graph = with_loss(model(BRANCHES), Hinge())
    assert {name: placed.inputs for name, placed in graph.nodes.items()} == {
        "stem": ("features",),
        "left": ("stem",),
        "right": ("stem",),
        "3_sigmoid": ("right",),
        "4_concat": ("left", "3_sigmoid"),
        "5_linear": ("4_concat",),
        "6_add": ("5_linear", "stem"),
        "scores": ("6_add",),
        "loss": ("scores", "labels"),
    }
    assert graph.shapes(2)["4_concat"] == (2, 10)


def test_rows_have_a_number_of_features_or_a_shape():
    layers = [{"type": "flatten"}, {"type": "linear", "units": 3}]
    assert model(layers, 30).shapes(2)["features"] == (2, 30)
    for inputs in ((2, 5, 3), [2, 5, 3]):
        graph = model(layers, inputs)
        assert graph.inputs["features"].shape == (BATCH, 2, 5, 3)
        assert graph.shapes(4)["scores"] == (4, 3)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"type": "conv2d", "filters": 2, "kernel": 1}], True),
        ([{"type": "max_pool2d", "kernel": 1}], True),
        ([{"type": "average_pool2d", "kernel": 1}], True),
        ([{"type": "flatten"}, {"type": "relu"}], False),
        ([{"type": "reshape", "shape": [2, 2, 1]}, {"type": "conv2d", "filters": 2, "kernel": 1}], False),
        ([{"type": "relu"}, {"type": "conv2d", "filters": 2, "kernel": 1, "inputs": ["features"]}], True),
        ([{"type": "relu"}, {"type": "add", "inputs": ["0_relu", "features"]}], False),
    ],
)
def test_whether_a_model_reads_images(layers, expected):
    assert reads_images([entry_from_spec(layer) for layer in layers]) is expected


def test_branches_against_numpy():
    graph = model(BRANCHES)
    plan = Plan(Program.compile(graph, ("scores",), batch=4, dtype=np.float64, backward=False))
    random = np.random.default_rng(0)
    plan.parameters[...] = random.normal(size=plan.parameters.size)
    plan.inputs["features"][...] = x = random.normal(size=(4, 5))
    plan.forward()
    value = plan.layout.views(plan.parameters)

    def linear(name, x):
        return x @ value[f"{name}.weight"] + value[f"{name}.bias"]

    stem = linear("stem", x)
    right = 1 / (1 + np.exp(-linear("right", stem)))
    joined = np.concatenate([np.maximum(stem, 0), right], axis=1)
    expected = linear("scores", linear("5_linear", joined) + stem)
    np.testing.assert_allclose(plan.value("scores"), expected, rtol=1e-12)


def test_gradients_of_branches():
    random = np.random.default_rng(1)
    inputs = {"features": random.normal(size=(4, 5)), "labels": random.integers(0, 3, 4)}
    check_graph(with_loss(model(BRANCHES), Hinge()), "loss", inputs).assert_ok()


def test_explicit_names_and_inputs_of_a_chain_equal_the_defaults():
    layers = [{"type": "linear", "units": 4}, {"type": "relu"}, {"type": "linear", "units": 3}]
    named = [
        layers[0] | {"name": "0_linear", "inputs": ["features"]},
        layers[1] | {"name": "1_relu", "inputs": ["0_linear"]},
        layers[2] | {"name": "scores", "inputs": ["1_relu"]},
    ]
    plain, explicit = model(layers), model(named)
    assert plain.nodes == explicit.nodes
    assert plain.nodes == build_classifier([Linear(units=4), ReLU(), Linear(units=3)], 5).nodes


def test_shared_parameters_are_listed_once():
    graph = model(
        [
            {"type": "linear", "units": 5, "name": "first"},
            {"type": "relu"},
            {"type": "linear", "units": 5, "share": "first"},
            {"type": "linear", "units": 3},
        ]
    )
    assert [each.name for each in graph.parameters()] == ["first.weight", "first.bias", "scores.weight", "scores.bias"]


WRONG = {
    "an unknown input": (changed(4, inputs=["lefft", "right"]), 4, "inputs", "did you mean 'left'"),
    "an input that is a later layer": (changed(2, inputs=["4_concat"]), 2, "inputs", "'4_concat', which comes later"),
    "an input that is the layer itself": (changed(2, inputs=["right"]), 2, "inputs", "itself"),
    "the labels as an input": (changed(2, inputs=["labels"]), 2, "inputs", "these are features, stem, left"),
    "too few inputs": (changed(6, inputs=["stem"]), 6, "inputs", "2 inputs, not 1"),
    "too many inputs": (changed(5, inputs=["4_concat", "stem"]), 5, "inputs", "1 input"),
    "a duplicate name": (changed(2, name="left"), 2, "name", "'left' is already taken by layer 1"),
    "the default name of a later layer": (changed(2, name="3_sigmoid"), 3, "name", "taken by layer 2"),
    "a reserved name": (changed(0, name="loss"), 0, "name", "reserved"),
    "the reserved name of the preprocessing tensors": (changed(0, name="inputs"), 0, "name", "reserved"),
    "a name with a dot": (changed(0, name="stem.weight"), 0, "name", "dot"),
    "a name for the scores": (changed(7, name="head"), 7, "name", "'scores'"),
    "shared parameters of an unknown layer": (changed(5, share="rigt"), 5, "share", "did you mean 'right'"),
    "shared parameters of a later layer": (changed(0, share="right"), 0, "share", "comes later"),
    "shared parameters of another shape": (changed(5, share="right"), 5, None, r"right.weight of shape (10, 6)"),
    "shared parameters of a relu layer": (changed(5, share="left"), 5, None, "shape (10, 6), but it does not exist"),
    "incompatible shapes": (changed(5, units=7), 6, None, "(1, 7) and (1, 6)"),
    "an unused layer": (changed(4, inputs=["left", "stem"]), 3, None, "no layer reads '3_sigmoid'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_error_has_the_entry_and_the_field(case):
    layers, entry, field, words = WRONG[case]
    with pytest.raises(ModelError) as caught:
        model(layers)
    assert (caught.value.entry, caught.value.field) == (entry, field)
    assert words in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.entry, again.field) == (str(caught.value), entry, field)


def test_invalid_entries_raise():
    with pytest.raises(ValueError, match=r"layer type 'linaer' is unknown; .* did you mean 'linear'\?"):
        entry_from_spec({"type": "linaer", "units": 3})
    with pytest.raises(ValueError, match=r"linear\.unit is not a field .* did you mean 'units'\?"):
        entry_from_spec({"type": "linear", "unit": 3})
    with pytest.raises(TypeError, match=r"relu\.inputs must be a list of names, not 'stem'"):
        entry_from_spec({"type": "relu", "inputs": "stem"})


def test_one_object_can_be_used_several_times():
    relu, linear = Entry(ReLU()), Linear(units=3)
    graph = build_classifier([linear, relu, linear, relu], 3)
    assert list(graph.nodes) == ["0_linear", "1_relu", "2_linear", "scores"]
    assert [each.name for each in graph.parameters()] == [
        f"{owner}.{name}" for owner in ("0_linear", "2_linear") for name in ("weight", "bias")
    ]


def test_no_layer_has_a_field_with_the_name_of_an_entry_field():
    for cls in registered("layer").values():
        assert PLACE.isdisjoint(cls.annotations)


def test_json_round_trip_of_an_entry():
    entry = Entry(Add(), name="sum", inputs=("a", "b"))
    spec = to_spec(entry.node) | {"name": entry.name, "inputs": entry.inputs, "share": entry.share}
    assert entry_from_spec(json.loads(json.dumps(spec))) == entry


def test_a_branching_model_learns():
    graph = with_loss(model(BRANCHES, features=2), Hinge())
    random = np.random.default_rng(3)
    angles, labels = random.uniform(0, np.pi, 200), random.integers(0, 3, 200)
    moons = np.stack([np.cos(angles) + 0.8 * labels, np.sin(angles) * (1 - 2 * (labels % 2)) + 0.3 * labels], axis=1)
    plan = Plan(Program.compile(graph, ("loss",), batch=200, dtype=np.float64))
    plan.parameters[...] = initialize(plan.layout, 0, np.float64)
    plan.inputs["features"][...], plan.inputs["labels"][...] = moons, labels
    losses = []
    for _ in range(300):
        plan.forward()
        losses.append(plan.value("loss").mean())
        plan.backward({"loss": 1 / 200})
        plan.parameters -= 0.1 * plan.gradients
    assert losses[-1] < 0.25 * losses[0]


def labelled():
    return with_loss(build_classifier([Linear(units=3)], 2), Hinge())


GOOD = {"features": np.zeros((4, 2)), "labels": np.array([0, 1, 2, 0])}
BAD_DATA = {
    "NaN": (
        {"features": np.array([[0, 0], [0, np.nan], [0, 0], [0, 0]])},
        r"'features' must be finite, but is nan at \[1, 1\]",
    ),
    "infinity": ({"features": np.full((4, 2), -np.inf)}, r"'features' must be finite, but is -inf at \[0, 0\]"),
    "wrong number of features": ({"features": np.zeros((4, 3))}, r"'features' must have shape \(4, 2\), not \(4, 3\)"),
    "wrong batch size": ({"labels": np.zeros(5, int)}, r"'labels' must have shape \(4,\), not \(5,\)"),
    "a label too large": (
        {"labels": np.array([0, 1, 3, 0])}, r"'labels' is 3 at \[2\], but node 'loss' needs integers from 0 to 2",
    ),
    "a label below 0": ({"labels": np.array([-1, 0, 0, 0])}, r"'labels' is -1 at \[0\], but node 'loss'"),
    "labels that are not integers": ({"labels": np.zeros(4)}, "'labels' must have an integer dtype, not float64"),
    "text": ({"features": np.full((4, 2), "a")}, "'features' must have an integer or float dtype, not <U1"),
    "an unknown name": ({"label": np.zeros(4, int)}, "inputs are features, labels, not features, label, labels"),
}  # fmt: skip


def test_valid_data_is_accepted():
    check_inputs(labelled(), GOOD)
    plan = Plan(Program.compile(labelled(), ("loss",), batch=4))
    check_inputs(labelled(), plan.inputs)


@pytest.mark.parametrize("case", BAD_DATA)
def test_invalid_data_raises_with_the_name_of_the_input(case):
    data, message = BAD_DATA[case]
    with pytest.raises(GraphError, match=message):
        check_inputs(labelled(), GOOD | data)


@pytest.mark.parametrize(("value", "fits"), [(0.0, True), (4.0, True), (5.0, False), (-1.0, False), (0.5, False)])
def test_the_indices_of_an_embedding_are_checked(value, fits):
    graph = Graph()
    graph.input("words", (BATCH, 2))
    graph.add("vectors", registered("layer")["embedding"](entries=5, units=3), "words")
    data = {"words": np.array([[1.0, value]])}
    if fits:
        check_inputs(graph, data)
    else:
        with pytest.raises(GraphError, match=rf"'words' is {value} at \[0, 1\], but node 'vectors' needs .* 0 to 4"):
            check_inputs(graph, data)
