import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    BATCH,
    SGD,
    Add,
    Concat,
    Conv2d,
    Entry,
    Exp,
    Graph,
    Hinge,
    Linear,
    Multiply,
    ParameterLayout,
    Plan,
    Program,
    ReLU,
    Reshape,
    Scale,
    Sigmoid,
    SoftmaxCrossEntropy,
    Step,
    build_classifier,
    initialize,
    with_loss,
)
from core.gradcheck.check import check_graph
from core.plan.arena import Lifetime, place
from tests.core.fixtures.memory import peak_growth

LOSSES = pytest.mark.parametrize("loss", [Hinge(), SoftmaxCrossEntropy()], ids=lambda loss: loss.type)


def network(loss, widths=(20, 16, 12, 5)):
    features, *hidden, classes = widths
    layers = [layer for units in hidden for layer in (Linear(units=units), ReLU())]
    return with_loss(build_classifier([*layers, Linear(units=classes)], features), loss)


def filled(graph, batch, seed=0, dtype=np.float64, wrt=(), **options):
    """Return a plan of the loss and the scores, with random parameters and inputs."""
    return fill(Program.compile(graph, ("loss", "scores"), batch=batch, dtype=dtype, wrt=wrt), seed, **options)


def fill(program, seed, **options):
    layout = ParameterLayout(program.parameters)
    plan = Plan(program, parameters=initialize(layout, seed, program.dtype), **options)
    random = np.random.default_rng(seed)
    plan.inputs["features"][...] = random.normal(size=plan.inputs["features"].shape)
    plan.inputs["labels"][...] = random.integers(0, plan.value("scores").shape[1], plan.inputs["labels"].shape)
    return plan


def by_hand(plan, loss_gradient):
    """Return scores and gradients of the three-layer ReLU network, computed with explicit formulas."""
    p = plan.layout.views(plan.parameters)
    x = plan.inputs["features"]
    a = x @ p["0_linear.weight"] + p["0_linear.bias"]
    h = np.where(a > 0, a, 0)
    b = h @ p["2_linear.weight"] + p["2_linear.bias"]
    k = np.where(b > 0, b, 0)
    s = k @ p["scores.weight"] + p["scores.bias"]
    ds = loss_gradient(s, plan.inputs["labels"])
    db = (ds @ p["scores.weight"].T) * (b > 0)
    da = (db @ p["2_linear.weight"].T) * (a > 0)
    gradients = {"scores.weight": k.T @ ds, "scores.bias": ds.sum(0), "2_linear.weight": h.T @ db}
    gradients |= {"2_linear.bias": db.sum(0), "0_linear.weight": x.T @ da, "0_linear.bias": da.sum(0)}
    return s, gradients, da @ p["0_linear.weight"].T


def softmax_slope(s, y):
    p = np.exp(s - s.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True) - np.eye(s.shape[1])[y]


def hinge_slope(s, y):
    rows = np.arange(len(y))
    active = (s - s[rows, y][:, None] + 1 > 0).astype(float)
    active[rows, y] = 0
    active[rows, y] = -active.sum(1)
    return active


@pytest.mark.parametrize("upstream", ["ones", "random"])
@pytest.mark.parametrize(("loss", "slope"), [(Hinge(), hinge_slope), (SoftmaxCrossEntropy(), softmax_slope)])
def test_a_network_against_explicit_formulas(loss, slope, upstream):
    plan = filled(network(loss), batch=9, wrt=("features", "scores"))
    weights = np.ones(9) if upstream == "ones" else np.random.default_rng(5).normal(size=9)
    plan.forward()
    plan.backward({"loss": weights})
    scores, gradients, features = by_hand(plan, lambda s, y: weights[:, None] * slope(s, y))
    np.testing.assert_allclose(plan.value("scores"), scores, rtol=1e-12)
    np.testing.assert_allclose(
        plan.gradient("scores"), weights[:, None] * slope(scores, plan.inputs["labels"]), rtol=1e-9
    )
    np.testing.assert_allclose(plan.gradient("features"), features, rtol=1e-11, atol=1e-13)
    for name, view in plan.layout.views(plan.gradients).items():
        np.testing.assert_allclose(view, gradients[name], rtol=1e-11, atol=1e-13, err_msg=name)


@LOSSES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_repeated_passes_give_the_same_bits(loss, dtype):
    plan = filled(network(loss), batch=9, dtype=dtype, wrt=("features", "1_relu"))
    seen = set()
    for forward in (True, False, True, True):
        if forward:
            plan.forward()
        plan.backward({"loss": 1.0})
        arrays = (plan.gradients, plan.gradient("features"), plan.gradient("1_relu"), plan.value("scores"))
        seen.add(tuple(array.tobytes() for array in arrays))
    assert len(seen) == 1


@LOSSES
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 13), max_size=5), seed=st.integers(0, 100))
def test_gradients_of_shards_sum_to_those_of_the_batch(loss, cuts, seed):
    graph, batch = network(loss), 13
    whole = filled(graph, batch, seed=seed)
    whole.forward()
    whole.backward({"loss": 1.0})
    total = np.zeros_like(whole.gradients)
    edges = [0, *sorted(cuts), batch]
    for start, stop in pairwise(edges):
        shard = Plan(
            Program.compile(graph, ("loss",), batch=stop - start, dtype=np.float64),
            layout=whole.layout,
            parameters=whole.parameters,
        )
        for name, rows in whole.inputs.items():
            shard.inputs[name][...] = rows[start:stop]
        shard.forward()
        shard.backward({"loss": 1.0})
        np.testing.assert_allclose(shard.value("loss"), whole.value("loss")[start:stop], rtol=1e-11, atol=1e-13)
        total += shard.gradients
    np.testing.assert_allclose(total, whole.gradients, rtol=1e-11, atol=1e-12 * np.abs(whole.gradients).max())


def growth_over_a_step(loss, batch):
    """Return the peak number of bytes that a training step allocates beyond the memory of the plan."""
    graph = network(loss, (784, 512, 10))
    plan = filled(graph, batch=batch, dtype=np.float32, wrt=("scores",))
    optimizer = SGD(lr=1e-4, momentum=0.9)
    state = {name: np.zeros_like(plan.parameters) for name in optimizer.slots}
    scratch = np.empty_like(plan.parameters)

    def step():
        plan.forward()
        plan.backward({"loss": 1.0})
        optimizer.update(np, plan.parameters, plan.gradients, state, scratch, Step(1e-4, 1))

    return peak_growth(step)


@LOSSES
def test_a_step_allocates_no_arrays(loss):
    small, large = growth_over_a_step(loss, 128), growth_over_a_step(loss, 512)
    activation = 128 * 512 * 4
    # The remainder is NumPy's buffer of fixed size for casting booleans to floats.
    assert small < activation / 4
    assert large - small < 128 * 4, "the memory allocated in a step grows with the batch size"


def test_buffers_are_shared_and_aligned():
    graph = network(SoftmaxCrossEntropy(), (64, *[64] * 10, 5))
    layout = ParameterLayout(graph.parameters())

    def memory(**options):
        tracemalloc.start()
        try:
            plan = Plan(Program.compile(graph, ("loss",), batch=1000, **options), layout=layout, parameters=parameters)
            return plan, tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    parameters = initialize(layout, 0)
    activation = 1000 * 64 * 4
    _, forward_only = memory(backward=False)
    plan, both = memory()
    # Forward needs its input and two activations at a time.
    assert 3 * activation < forward_only < 4 * activation
    # The input, the ten activations that backward reads, two consecutive gradients and the parameters' gradients. The
    # ten outputs of the linear layers, or ten gradients, would exceed the limit.
    assert 13 * activation < both < 15 * activation
    assert all(array.ctypes.data % 64 == 0 for array in (*plan.inputs.values(), plan.gradients, plan.value("loss")))


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 10), st.integers(0, 10)).map(
            lambda drawn: Lifetime((drawn[0],), np.dtype(np.float32), min(drawn[1:]), max(drawn[1:]))
        ),
        max_size=12,
    )
)
def test_arrays_in_use_together_never_overlap(lifetimes):
    offsets, size = place(lifetimes)
    for i, one in enumerate(lifetimes):
        assert offsets[i] % 64 == 0
        assert offsets[i] + one.size <= size
        for j, other in enumerate(lifetimes[:i]):
            apart = offsets[i] + one.size <= offsets[j] or offsets[j] + other.size <= offsets[i]
            assert apart or one.last < other.first or other.last < one.first
    assert size <= sum(each.size for each in lifetimes)


def test_outputs_keep_their_values():
    graph = Graph()
    graph.input("x", (BATCH, 3))
    value = "x"
    for step in range(6):
        value = graph.add(f"n{step}", Scale(factor=2), value)
    plan = Plan(Program.compile(graph, graph.order(), batch=2, wrt=("x",)))
    plan.inputs["x"].fill(1)
    plan.forward()
    plan.backward({"n5": 1.0})
    assert [plan.value(f"n{step}")[0, 0] for step in range(6)] == [2, 4, 8, 16, 32, 64]
    assert plan.gradient("x")[0, 0] == 64


def test_upstream_gradients_are_summed_and_missing_ones_are_zero():
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("a", Exp(), "x")
    graph.add("b", Scale(factor=3), "a")
    graph.add("c", Scale(factor=5), "a")
    plan = Plan(Program.compile(graph, ("a", "b", "c"), batch=1, dtype=np.float64, wrt=("x",)))
    plan.inputs["x"][...] = [[0.0, 1.0]]
    plan.forward()
    slope = np.exp([[0.0, 1.0]])
    for upstream, factor in [({"b": 1.0}, 3), ({"a": 1.0}, 1), ({"a": 2.0, "c": [[1.0, 1.0]]}, 7), ({}, 0)]:
        plan.backward(upstream)
        np.testing.assert_allclose(plan.gradient("x"), factor * slope, rtol=1e-15)


def test_shared_parameters_get_the_sum_of_their_gradients():
    graph = Graph()
    graph.input("x", (BATCH, 3))
    value = "x"
    for step in range(4):
        value = graph.add(f"linear{step}", Linear(units=3), value, share="linear0" if step else None)
        value = graph.add(f"sigmoid{step}", Sigmoid(), value)
    x = np.random.default_rng(0).normal(size=(2, 3))
    check_graph(graph, value, {"x": x}).assert_ok()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_random_graphs(data, seed):
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.input("y", (BATCH, 2))
    values = ["x", "y", graph.add("first", Add(), "x", "y")]
    for index in range(data.draw(st.integers(1, 7))):
        node = data.draw(st.sampled_from([Add(), Multiply(), Sigmoid(), Scale(factor=-0.7), Linear(units=2)]))
        reads = data.draw(st.lists(st.sampled_from(values), min_size=node.arity, max_size=node.arity))
        values.append(graph.add(f"n{index}", node, *reads))
    # The output depends on every value.
    output = "x"
    for index, value in enumerate(values):
        output = graph.add(f"sum{index}", Add(), output, value)
    random = np.random.default_rng(seed)
    inputs = {name: random.normal(scale=0.5, size=(2, 2)) for name in "xy"}
    check_graph(graph, graph.add("output", Sigmoid(), output), inputs, seed).assert_ok()


@LOSSES
def test_an_empty_batch_has_no_gradient(loss):
    plan = filled(network(loss), batch=0)
    plan.forward()
    plan.gradients.fill(np.nan)
    plan.backward({"loss": 1.0})
    views = plan.layout.views(plan.gradients)
    assert not any(view.any() for view in views.values())


def test_nodes_that_no_output_depends_on_are_not_computed():
    graph = network(Hinge())
    plan = Plan(Program.compile(graph, ("scores",), batch=3, backward=False))
    plan.inputs["labels"].fill(-(2**40))
    plan.forward()
    assert not plan.value("scores").any()


def test_parameters_are_shared_with_the_caller():
    plan = filled(network(Hinge()), batch=3)
    plan.forward()
    before = plan.value("scores").copy()
    plan.parameters *= 2
    plan.forward()
    assert not np.array_equal(plan.value("scores"), before)
    vector = plan.parameters
    assert Plan(plan.program, parameters=vector).parameters is vector


def test_invalid_names_and_layouts_raise():
    graph = network(Hinge())
    with pytest.raises(ValueError, match="'score' is not a node; the nodes are 0_linear"):
        Program.compile(graph, ("score",))
    with pytest.raises(ValueError, match="'weight' is neither an input nor a node"):
        Program.compile(graph, ("loss",), wrt=("weight",))
    with pytest.raises(ValueError, match="'labels' holds integers"):
        Program.compile(graph, ("loss",), wrt=("labels",))
    with pytest.raises(ValueError, match="'loss' has no gradient: no output depends on it"):
        Program.compile(graph, ("scores",), wrt=("loss",))
    program = Program.compile(graph, ("loss",))
    with pytest.raises(ValueError, match="dtype float32, not float64"):
        Plan(program, parameters=np.zeros(1000))
    with pytest.raises(ValueError, match=r"the layout lacks 0_linear\.weight"):
        Plan(program, layout=ParameterLayout([]))
    other = [replace(each, shape=(*each.shape, 2)) for each in program.parameters]
    with pytest.raises(ValueError, match=r"0_linear\.weight has the shape \(\d+, \d+, 2\) in the layout"):
        Plan(program, layout=ParameterLayout(other))
    plan = Plan(program)
    with pytest.raises(ValueError, match="'scores' is not an output of this plan; its outputs are loss"):
        plan.backward({"scores": 1.0})
    with pytest.raises(ValueError, match="'scores' is not in this plan's wrt"):
        plan.gradient("scores")


def test_gradients_are_written_to_a_given_vector():
    graph = network(Hinge())
    expected = filled(graph, 7)
    vector = np.full_like(expected.gradients, np.nan)
    plan = filled(graph, 7, gradients=vector)
    for each in (expected, plan):
        each.forward()
        each.backward({"loss": 1.0})
    assert plan.gradients is vector
    for name, view in plan.layout.views(vector).items():
        assert view.tobytes() == plan.layout.views(expected.gradients)[name].tobytes()


def test_parameters_that_no_output_depends_on_have_zero_gradient():
    """In every pass, because the caller can write to the vector between passes."""
    graph = network(Hinge())
    graph.add("unused", Linear(units=2), "scores")
    vector = np.full(ParameterLayout(graph.parameters()).size, np.nan)
    plan = filled(graph, 7, gradients=vector)
    for _ in range(2):
        plan.forward()
        plan.backward({"loss": 1.0})
        views = plan.layout.views(vector)
        assert not views["unused.weight"].any()
        assert not views["unused.bias"].any()
        assert np.isfinite(views["scores.weight"]).all()
        assert views["scores.weight"].any()
        vector.fill(np.nan)


def test_a_gradient_vector_of_wrong_dtype_or_shape_raises():
    program = Program.compile(network(Hinge()), ("loss",))
    size = ParameterLayout(program.parameters).size
    with pytest.raises(ValueError, match="gradients must be of the plan's dtype float32, not float64"):
        Plan(program, gradients=np.zeros(size, np.float64))
    with pytest.raises(ValueError, match=rf"shape \({size},\)"):
        Plan(program, gradients=np.zeros(size - 1, np.float32))


def test_nodes_computed_again_leave_the_values_of_others():
    branches = [
        Entry(Conv2d(filters=3, kernel=kernel, padding="same"), name=f"side{kernel}", inputs=("images",))
        for kernel in (1, 3, 5)
    ]
    joined = Entry(Concat(), inputs=tuple(entry.name for entry in branches))
    layers = [Entry(Reshape(shape=(6, 6, 2)), name="images"), *branches, joined, Reshape(shape=(324,))]
    graph = build_classifier(layers, 72)
    plan = Plan(Program.compile(graph, graph.order(), batch=4, dtype=np.float64, backward=False))
    plan.parameters[...] = np.random.default_rng(0).normal(size=plan.parameters.size)
    plan.inputs["features"][...] = np.random.default_rng(1).normal(size=(4, 72))
    plan.forward()
    values = {name: plan.value(name).copy() for name in graph.nodes}
    for name in graph.nodes:
        plan.forward_again({name})
        for other, value in values.items():
            np.testing.assert_array_equal(plan.value(other), value, err_msg=f"{other} after {name}")
