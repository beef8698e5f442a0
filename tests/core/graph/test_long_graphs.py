"""Graphs of many nodes are built and compiled in time that grows with the number of their nodes."""

import pytest

from core import Linear, Program, Softmax, build_classifier, entry_from_spec, summary
from core.graph.entries import Head
from core.graph.indices import columns_of
from tests.core.fixtures.memory import peak_growth
from tests.fixtures.lines import lines_run


def linear(**place):
    return {"type": "linear", "units": 4, **place}


def residual(multipliers=None):
    return {"type": "residual", "layers": [linear()]} | ({"multipliers": multipliers} if multipliers else {})


MODELS = {
    "a chain": lambda n: [linear() for _ in range(n)],
    "a chain of shared layers": lambda n: [
        linear(name="l0"),
        *(linear(name=f"l{i}", share=f"l{i - 1}") for i in range(1, n)),
    ],
    "layers that share with one": lambda n: [linear(name="l0"), *(linear(share="l0") for _ in range(1, n))],
    "sums": lambda n: [
        linear(name="l0"),
        *({"type": "add", "name": f"l{i}", "inputs": [f"l{i - 1}"] * 16} for i in range(1, n)),
    ],
    "branches": lambda n: [
        *(linear(name=f"l{i}", inputs=["features"]) for i in range(n)),
        {"type": "concat", "inputs": [f"l{i}" for i in range(n)]},
    ],
    "repeated layers": lambda n: [{"type": "repeat", "times": n, "layers": [linear()]}],
    "dense": lambda n: [{"type": "dense", "times": n, "layers": [linear()]}],
    "blocks": lambda n: [residual() for _ in range(n)],
    "blocks with multipliers": lambda n: [residual({"bias": {"learning_rate": 2}}) for _ in range(n)],
}


def model(kind, nodes):
    return build_classifier([entry_from_spec(layer) for layer in [*MODELS[kind](nodes), linear()]], 4)


@pytest.mark.parametrize("kind", MODELS)
def test_the_time_grows_with_the_number_of_nodes(kind):
    def work(nodes):
        graph = model(kind, nodes)
        Program.compile(graph, ("scores",), wrt=("scores",))
        summary(graph)

    # Concatenations and sums look at all of their inputs, of which there are more in a longer model.
    assert lines_run(lambda: work(160)) < 3 * lines_run(lambda: work(80))


def test_the_owners_of_a_chain_are_found_by_one_walk():
    graph = model("a chain of shared layers", 400)
    assert {graph.owner(name) for name in graph.nodes if name != "scores"} == {"l0"}
    lines = lines_run(lambda: [graph.owner(name) for name in graph.nodes])
    assert lines < 20 * len(graph.nodes)


def test_the_parameters_of_a_node_are_declared_once(monkeypatch):
    calls, declared = [], Linear.parameters

    def parameters(node, *shapes):
        calls.append(node)
        return declared(node, *shapes)

    monkeypatch.setattr(Linear, "parameters", parameters)
    graph = model("a chain", 20)
    for batch in (1, 2, 3):
        Program.compile(graph, ("scores",), batch=batch)
    assert len(calls) == len(graph.nodes)


def test_a_changed_graph_has_other_parameters():
    graph = model("a chain of shared layers", 2)
    before = {each.name for each in graph.parameters()}
    graph.add("more", Linear(units=2), "scores", share=None)
    graph.add("shared", Linear(units=4), "l1", share="l1")
    assert {each.name for each in graph.parameters()} == before | {"more.weight", "more.bias"}
    assert graph.owner("shared") == "l0"


def test_heads_of_many_layers():
    def work(layers):
        within = tuple(entry_from_spec(linear()) for _ in range(layers))
        heads = [Head(reads="l0", layers=within) for _ in range(4)]
        build_classifier([entry_from_spec(layer) for layer in (linear(name="l0"), linear())], 4, heads)

    assert lines_run(lambda: work(80)) < 3 * lines_run(lambda: work(40))


def test_values_that_depend_on_no_single_column_take_no_memory():
    graph = build_classifier([Linear(units=4_000_000), Softmax(), Linear(units=1)], 2)
    columns = []
    assert peak_growth(lambda: columns.append(columns_of(graph))) < 1_000_000
    assert columns[0]["0_linear"].shape == (1, 4_000_000)
    assert (columns[0]["0_linear"] == -1).all()
    assert columns[0]["features"].tolist() == [[0, 1]]
