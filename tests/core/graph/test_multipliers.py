"""Multipliers of the learning rate and the decay: from an entry to the layout of the parameters."""

import json

import pytest

from core import (
    BatchNorm,
    Conv2d,
    Entry,
    Graph,
    GraphError,
    Linear,
    ModelError,
    Multipliers,
    ParameterLayout,
    PReLU,
    ReLU,
    Reshape,
    build_classifier,
    entry_from_spec,
)

DOUBLE = {"bias": Multipliers(learning_rate=2, decay=0)}


def declared(*layers):
    return {each.name: each for each in build_classifier(layers, 5).parameters()}


def test_an_entry_of_caffe():
    spec = {"type": "linear", "units": 3, "multipliers": {"bias": {"learning_rate": 2, "decay": 0}}}
    entry = entry_from_spec(json.loads(json.dumps(spec)))
    assert entry == Entry(Linear(units=3), multipliers=DOUBLE)
    found = declared(entry)
    weight, bias = found["scores.weight"], found["scores.bias"]
    assert (weight.learning_rate, weight.decay, weight.penalized) == (1, 1, True)
    assert (bias.learning_rate, bias.decay, bias.penalized) == (2, 1, False)


@pytest.mark.parametrize(
    ("decay", "weight", "bias"),
    [(None, (True, 1), (False, 1)), (0, (False, 1), (False, 1)), (1, (True, 1), (True, 1)), (3, (True, 3), (True, 3))],
)
def test_a_decay_decides_whether_a_parameter_has_a_penalty(decay, weight, bias):
    both = dict.fromkeys(("weight", "bias"), Multipliers(decay=decay))
    found = declared(Entry(Linear(units=3), multipliers=both))
    assert (found["scores.weight"].penalized, found["scores.weight"].decay) == weight
    assert (found["scores.bias"].penalized, found["scores.bias"].decay) == bias


def test_a_decay_counts_more_than_the_layers_own_field():
    entry = Entry(Linear(units=3, penalized=False), multipliers={"weight": Multipliers(decay=0.5)})
    assert (declared(entry)["scores.weight"].penalized, declared(entry)["scores.weight"].decay) == (True, 0.5)


def test_a_run_ends_where_the_multipliers_change():
    layers = [
        Linear(units=4),
        Entry(Linear(units=4), multipliers=DOUBLE),
        Entry(Linear(units=4), multipliers={"weight": Multipliers(2), "bias": Multipliers(2)}),
        Entry(Linear(units=4), multipliers={"weight": Multipliers(decay=3)}),
        Linear(units=3),
    ]
    layout = ParameterLayout(build_classifier(layers, 5).parameters())
    ends = [layout.slice(name).start for name in ("1_linear.bias", "3_linear.weight", "3_linear.bias")]
    assert layout.runs == [
        (0, ends[0], 1, 1), (ends[0], ends[1], 2, 1), (ends[1], ends[2], 1, 3), (ends[2], layout.size, 1, 1)
    ]  # fmt: skip
    assert layout.decays == [1, 1, 1, 3, 1]
    assert len(layout.penalized) == 5


def test_without_multipliers_there_is_one_run():
    layout = ParameterLayout(build_classifier([Linear(units=4), BatchNorm(), PReLU(), Linear(units=3)], 5).parameters())
    assert layout.runs == [(0, layout.size, 1, 1)]
    assert ParameterLayout([]).runs == []


def test_nodes_that_share_parameters_have_the_multipliers_of_the_first():
    graph = build_classifier(
        [Entry(Linear(units=5), "first", multipliers=DOUBLE), Entry(Linear(units=5), share="first")], 5
    )
    shapes = graph.shapes()
    assert graph.parameters_of("scores", shapes) == graph.parameters_of("first", shapes) == tuple(graph.parameters())


WRONG = {
    "a parameter that is misspelt": (
        [Linear(units=3), Entry(Linear(units=3), multipliers={"wieght": Multipliers()})],
        1,
        "multipliers for 'wieght', but its trained parameters are weight, bias; did you mean 'weight'?",
    ),
    "a layer without parameters": (
        [Entry(ReLU(), multipliers=DOUBLE), Linear(units=3)],
        0,
        "multipliers for 'bias', but its trained parameters are (none)",
    ),
    "a bias that is left out": (
        [Reshape(shape=(1, 1, 5)), Entry(Conv2d(filters=3, kernel=1, bias=None), multipliers=DOUBLE)],
        1,
        "multipliers for 'bias', but its trained parameters are weight",
    ),
    "a running average": (
        [Entry(BatchNorm(), multipliers={"mean": Multipliers(0)}), Linear(units=3)],
        0,
        "multipliers for 'mean', but its trained parameters are scale, shift",
    ),
    "shared parameters": (
        [Entry(Linear(units=5), "first"), Entry(Linear(units=5), share="first", multipliers=DOUBLE), Linear(units=2)],
        1,
        "node '1_linear' uses the parameters of 'first', which can have multipliers, and has none of its own",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_multipliers_that_fit_no_parameter_raise_with_the_entry(case):
    layers, entry, words = WRONG[case]
    with pytest.raises(ModelError) as caught:
        build_classifier(layers, 5)
    assert (caught.value.entry, caught.value.field) == (entry, "multipliers")
    assert words in str(caught.value)


def test_a_graph_names_the_node():
    graph = Graph()
    graph.input("x", (2, 3))
    graph.add("first", Linear(units=2), "x", multipliers={"b": Multipliers()})
    with pytest.raises(GraphError, match=r"node 'first' has multipliers for 'b'"):
        graph.parameters()


@pytest.mark.parametrize(
    ("multipliers", "error", "words"),
    [
        ({"bias": {"learning_rate": -1}}, ValueError, r"multipliers\.bias\.learning_rate must be from 0 to 1000, not"),
        ({"bias": {"decay": 1001}}, ValueError, r"multipliers\.bias\.decay must be from 0 to 1000, not 1001"),
        ({"bias": {"decay": float("nan")}}, ValueError, r"multipliers\.bias\.decay must be from 0 to 1000, not nan"),
        ({"bias": {"learning_rate": None}}, TypeError, r"multipliers\.bias\.learning_rate must be a number, not None"),
        ({"bias": {"decay": "2"}}, TypeError, r"multipliers\.bias\.decay must be a number, not '2'"),
        ({"bias": {"decay": True}}, TypeError, r"multipliers\.bias\.decay must be a number, not True"),
        ({"bias": {"lr": 1}}, ValueError, r"multipliers\.bias\.lr is not one of learning_rate, decay"),
        ({"bias": 2}, TypeError, r"multipliers\.bias must be an object with learning_rate and decay, not 2"),
        ([2], TypeError, r"multipliers must be an object with one entry for each parameter, not \[2\]"),
    ],
    ids=str,
)  # fmt: skip
def test_multipliers_of_the_wrong_form_raise_with_the_field(multipliers, error, words):
    with pytest.raises(error, match=f"linear.{words}"):
        entry_from_spec({"type": "linear", "units": 3, "multipliers": multipliers})
