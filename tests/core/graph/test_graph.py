import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import (
    BATCH,
    Add,
    Graph,
    GraphError,
    Hinge,
    Linear,
    ParameterLayout,
    ReLU,
    Reshape,
    Sigmoid,
    build_classifier,
    with_loss,
)


def test_order_is_topological_and_independent_of_insertion():
    graph = Graph()
    graph.add("last", Add(), "middle", "first")
    graph.add("middle", ReLU(), "first")
    graph.add("first", ReLU(), "x")
    graph.input("x", (BATCH, 2))
    assert graph.order() == ["first", "middle", "last"]


@given(st.permutations(range(8)), st.data())
def test_order_of_random_graphs(names, data):
    graph = Graph()
    graph.input("x", (BATCH, 2))
    reads = {}
    for position, name in enumerate(names):
        before = ["x", *(f"n{each}" for each in names[:position])]
        reads[f"n{name}"] = data.draw(st.tuples(st.sampled_from(before), st.sampled_from(before)))
    for name in sorted(reads):
        graph.add(name, Add(), *reads[name])
    order = graph.order()
    assert sorted(order) == sorted(reads)
    for name, values in reads.items():
        assert all(value == "x" or order.index(value) < order.index(name) for value in values)


def test_a_cycle_raises_with_the_names_of_its_nodes():
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("apart", ReLU(), "x")
    graph.add("a", Add(), "x", "c")
    graph.add("b", ReLU(), "a")
    graph.add("c", ReLU(), "b")
    with pytest.raises(GraphError, match="cycle") as caught:
        graph.order()
    named = str(caught.value).split(":")[1].split(";")[0].split(" -> ")
    assert {name.strip() for name in named} == {"a", "b", "c"}


def test_errors_name_the_node():
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.input("y", (BATCH, 3))
    with pytest.raises(GraphError, match=r"node 'sum' \(Add\) takes at least 2 inputs, not 1"):
        graph.add("sum", Add(), "x")
    graph.add("sum", Add(), "x", "y")
    with pytest.raises(GraphError, match=r"node 'sum', which reads x, y: .*\(4, 2\) and \(4, 3\)"):
        graph.shapes(4)
    graph.add("lost", ReLU(), "nowhere")
    with pytest.raises(GraphError, match="node 'lost' reads 'nowhere'"):
        graph.order()
    with pytest.raises(GraphError, match="'x' is already taken"):
        graph.add("x", ReLU(), "y")
    with pytest.raises(GraphError, match="dot"):
        graph.input("x.y", ())


def test_parameters_and_layout():
    graph = build_classifier([Linear(units=3), ReLU(), Linear(units=2)], inputs=5)
    declared = {each.name: (each.shape, each.penalized) for each in graph.parameters()}
    assert declared == {
        "0_linear.weight": ((5, 3), True),
        "0_linear.bias": ((3,), False),
        "scores.weight": ((3, 2), True),
        "scores.bias": ((2,), False),
    }
    layout = ParameterLayout(graph.parameters())
    assert layout.names == tuple(declared)
    assert [layout.slice(name).start for name in layout.names] == [0, 16, 32, 48]
    assert layout.size == 64
    assert layout.penalized == [(0, 15), (32, 38)]
    with pytest.raises(ValueError, match=r"\(64,\), not \(63,\)"):
        layout.views(np.zeros(63))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 40))
def test_layout_covers_each_parameter_once(units, features):
    layout = ParameterLayout(build_classifier([Linear(units=each) for each in units], features).parameters())
    vector = np.zeros(layout.size)
    for number, (name, view) in enumerate(layout.views(vector).items(), start=1):
        assert np.shares_memory(view, vector)
        assert not view.any(), name
        view.fill(number)
        assert layout.slice(name).start % 16 == 0
    counts = [int(np.prod(declared.shape)) for declared in layout.declarations.values()]
    assert [np.count_nonzero(vector == number) for number in range(1, len(counts) + 1)] == counts


def unrolled(steps, units=3):
    graph = Graph()
    graph.input("x", (BATCH, units))
    value = "x"
    for step in range(steps):
        value = graph.add(f"linear{step}", Linear(units=units), value, share=None if step == 0 else f"linear{step - 1}")
        value = graph.add(f"sigmoid{step}", Sigmoid(), value)
    return graph


def test_shared_parameters_are_listed_once():
    assert [each.name for each in unrolled(4).parameters()] == ["linear0.weight", "linear0.bias"]


def test_invalid_sharing_raises():
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("a", Linear(units=3), "x")
    graph.add("b", Linear(units=4), "x", share="a")
    with pytest.raises(GraphError, match=r"'b' needs a\.weight of shape \(2, 4\), but it has shape \(2, 3\)"):
        graph.parameters()
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("a", Linear(units=3), "x", share="b")
    with pytest.raises(GraphError, match="'a' shares the parameters of 'b', which is not a node"):
        graph.parameters()
    graph.add("b", Linear(units=3), "x", share="a")
    with pytest.raises(GraphError, match="cycle: a -> b -> a"):
        graph.parameters()
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("a", ReLU(), "x")
    graph.add("b", Linear(units=3), "x", share="a")
    with pytest.raises(GraphError, match=r"a\.weight of shape \(2, 3\), but it does not exist"):
        graph.parameters()


def test_names_and_shapes_of_a_classifier():
    graph = with_loss(build_classifier([Linear(units=4), ReLU(), Linear(units=3)], 2), Hinge())
    assert graph.order() == ["0_linear", "1_relu", "scores", "loss"]
    assert graph.inputs["labels"].integer
    assert graph.shapes(6) == {
        "features": (6, 2),
        "labels": (6,),
        "0_linear": (6, 4),
        "1_relu": (6, 4),
        "scores": (6, 3),
        "loss": (6,),
    }
    with pytest.raises(ValueError, match="at least one layer"):
        build_classifier([], 2)


def test_a_value_has_at_most_16_axes() -> None:
    graph = Graph()
    graph.add("many", Reshape(shape=(8, *[1] * 15)), graph.input("x", (BATCH, 8)))
    with pytest.raises(GraphError, match="the output of node 'many' has 17 axes: at most 16"):
        graph.shapes()
