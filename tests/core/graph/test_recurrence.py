import numpy as np
import pytest

from core import BATCH, Add, Graph, GraphError, Hinge, Linear, Plan, Program, ReLU, Sigmoid, registered, unroll
from core.gradcheck.check import check_graph

STEPS, FEATURES, UNITS, CLASSES = 4, 3, 5, 2


def recurrent(steps=STEPS):
    """h_t = sigmoid(x_t A + a + h_{t-1} B + b), followed by a linear layer and a hinge loss after the last step."""
    cell = Graph()
    cell.input("x", (BATCH, FEATURES))
    cell.input("h", (BATCH, UNITS))
    # Each node is added before the nodes that it reads.
    cell.add("state", Sigmoid(), "sum")
    cell.add("sum", Add(), "from_x", "from_h")
    cell.add("from_x", Linear(units=UNITS), "x")
    cell.add("from_h", Linear(units=UNITS), "h")

    graph = Graph()
    graph.input("start", (BATCH, UNITS))
    sequence = [graph.input(f"x{step}", (BATCH, FEATURES)) for step in range(steps)]
    copies = unroll(graph, cell, {"x": sequence}, {"h": ("start", "state")})
    assert copies["state"] == [f"state_{step}" for step in range(steps)]
    graph.add("scores", Linear(units=CLASSES), copies["state"][-1])
    graph.input("labels", (BATCH,), integer=True)
    graph.add("loss", Hinge(), "scores", "labels")
    return graph


def data(batch=3, steps=STEPS):
    random = np.random.default_rng(5)
    return {
        "start": random.normal(size=(batch, UNITS)),
        **{f"x{step}": random.normal(size=(batch, FEATURES)) for step in range(steps)},
        "labels": random.integers(0, CLASSES, batch),
    }


def test_parameters_are_those_of_the_first_step():
    assert sorted(each.name for each in recurrent().parameters()) == [
        "from_h_0.bias",
        "from_h_0.weight",
        "from_x_0.bias",
        "from_x_0.weight",
        "scores.bias",
        "scores.weight",
    ]


def test_values_against_a_loop():
    plan = Plan(Program.compile(recurrent(), ("scores",), batch=3, dtype=np.float64, backward=False))
    plan.parameters[...] = np.random.default_rng(6).normal(size=plan.parameters.size)
    inputs = data()
    for name, buffer in plan.inputs.items():
        buffer[...] = inputs[name]
    plan.forward()
    value = plan.layout.views(plan.parameters)
    h = inputs["start"]
    for step in range(STEPS):
        from_x = inputs[f"x{step}"] @ value["from_x_0.weight"] + value["from_x_0.bias"]
        h = 1 / (1 + np.exp(-(from_x + h @ value["from_h_0.weight"] + value["from_h_0.bias"])))
    expected = h @ value["scores.weight"] + value["scores.bias"]
    np.testing.assert_allclose(plan.value("scores"), expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_gradients_through_time(steps):
    check_graph(recurrent(steps), "loss", data(steps=steps)).assert_ok()


def test_two_states_that_are_swapped():
    """a_t = b_{t-1}, b_t = relu(a_{t-1}): each step must read the states of the previous step."""
    cell = Graph()
    for name in ("a", "b", "x"):
        cell.input(name, (BATCH, 1))
    cell.add("new_b", ReLU(), "a")
    cell.add("new_a", registered("layer")["identity"](), "b")
    cell.add("seen", Add(), "x", "a")
    graph = Graph()
    for name in ("first", "second", "x"):
        graph.input(name, (BATCH, 1))
    copies = unroll(graph, cell, {"x": ["x"] * 3}, {"a": ("first", "new_a"), "b": ("second", "new_b")})
    plan = Plan(Program.compile(graph, ("new_a_2", "new_b_2", "seen_2"), batch=1, backward=False))
    plan.inputs["first"][...], plan.inputs["second"][...], plan.inputs["x"][...] = 5, 7, 100
    plan.forward()
    assert copies["new_a"][-1] == "new_a_2"
    # The first, second and third step read the states (5, 7), (7, 5) and (5, 7).
    assert [plan.value(name).item() for name in plan.program.outputs] == [7, 5, 105]


def test_invalid_arguments_raise():
    cell = Graph()
    cell.input("x", (BATCH, 1))
    cell.input("h", (BATCH, 1))
    cell.add("sum", Add(), "x", "h")
    for sequences, states, message in [
        ({"x": ["a"]}, {}, "each input of the cell once: h, x, not x"),
        ({"x": ["a"], "h": ["b"]}, {"h": ("b", "sum")}, "not h, h, x"),
        ({"x": ["a"]}, {"h": ("b", "total")}, "'h' names 'total', which is not a node"),
        ({"x": ["a"], "h": ["b", "c"]}, {}, r"same length, not \[1, 2\]"),
        ({}, {"x": ("a", "sum"), "h": ("b", "sum")}, r"same length, not \[\]"),
    ]:
        with pytest.raises(GraphError, match=message):
            unroll(Graph(), cell, sequences, states)
