from collections import Counter
from graphlib import TopologicalSorter

import numpy as np
import pytest

from core import (
    BATCH,
    BatchNorm,
    Dropout,
    Embedding,
    Graph,
    GraphError,
    Linear,
    ParameterLayout,
    Plan,
    Program,
    RandomKey,
    ReLU,
    SoftmaxCrossEntropy,
    aligned_zeros,
    build_classifier,
    initialize,
    with_loss,
)
from core.arrays import ALIGNMENT

LAYERS = [Linear(units=7), BatchNorm(), ReLU(), Dropout(rate=0.5), Linear(units=3)]


def network():
    return with_loss(build_classifier(LAYERS, inputs=5), SoftmaxCrossEntropy())


def training(rows, dtype=np.float32):
    return Program.compile(network(), ("loss", "scores"), batch=rows, dtype=dtype, wrt=("scores",))


def step(plan, seed):
    """Run a step on random rows and return the bytes of all results."""
    random = np.random.default_rng(seed)
    plan.inputs["features"][...] = random.normal(size=plan.inputs["features"].shape)
    plan.inputs["labels"][...] = random.integers(0, 3, plan.inputs["labels"].shape)
    plan.forward(RandomKey(seed))
    plan.backward({"loss": 1.0})
    return bits(plan)


def bits(plan):
    results = (plan.value("loss"), plan.value("scores"), plan.gradient("scores"), plan.gradients)
    return [each.tobytes() for each in results]


def test_sharing_a_program_changes_no_bit():
    layout = ParameterLayout(network().parameters())
    parameters = initialize(layout, seed=0)
    program = training(9)
    shared = [Plan(program, parameters=parameters) for _ in range(2)]
    own = [Plan(training(9), parameters=parameters) for _ in range(2)]
    for seed in range(3):
        assert [step(plan, seed) for plan in shared] == [step(plan, seed) for plan in own]


def test_plans_of_one_program_are_independent():
    program = training(9)
    parameters = initialize(ParameterLayout(program.parameters), seed=0)
    first, second = Plan(program, parameters=parameters), Plan(program, parameters=parameters)
    before = step(first, 1)
    assert step(second, 2) != before
    assert bits(first) == before
    # Backward reads the values of the first plan's own forward pass.
    first.backward({"loss": 1.0})
    assert bits(first) == before


class Counting:
    """NumPy namespace that records the size of each allocation in bytes."""

    def __init__(self):
        self.allocated = []

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, size, dtype):
        self.allocated.append(size * np.dtype(dtype).itemsize)
        return np.empty(size, dtype)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 9, 1000])
def test_nbytes_is_the_memory_that_a_plan_allocates(rows, dtype, backward):
    program = Program.compile(network(), ("loss",), batch=rows, dtype=dtype, backward=backward)
    vector = np.zeros(ParameterLayout(program.parameters).size, dtype)
    xp = Counting()
    Plan(program, parameters=vector, gradients=vector.copy(), xp=xp)
    empty = [] if backward else [ALIGNMENT]  # the empty vector of gradients
    assert xp.allocated == [*empty, program.nbytes + ALIGNMENT]


@pytest.mark.parametrize("fill", [0, 255])
def test_plans_that_share_memory_give_the_bits_of_those_with_their_own(fill):
    parameters = initialize(ParameterLayout(network().parameters()), seed=0)
    forward = Program.compile(network(), ("loss",), batch=20, backward=False)
    programs = [training(9), training(4), forward, training(0)]
    memory = aligned_zeros((max(program.nbytes for program in programs),), np.uint8)
    memory.fill(fill)  # 255s are NaN
    shared = [Plan(program, memory=memory, parameters=parameters) for program in programs]
    own = [Plan(program, parameters=parameters) for program in programs]

    def outputs(plan, seed):
        if plan.program.backward:
            return step(plan, seed)
        plan.inputs["features"][...] = np.linspace(-seed, 1, plan.inputs["features"].size).reshape(20, 5)
        plan.inputs["labels"].fill(seed % 3)
        plan.forward()
        return plan.value("loss").tobytes()

    for seed in (1, 2):
        assert [outputs(plan, seed) for plan in shared] == [outputs(plan, seed) for plan in own]
    for plan in shared:
        arrays = [*plan.inputs.values(), plan.value("loss")]
        assert all(np.shares_memory(array, memory) for array in arrays if array.size)
        assert not np.shares_memory(plan.gradients, memory)


def test_a_plan_allocates_nothing_if_it_is_given_everything():
    program = training(9)
    vector = np.zeros(ParameterLayout(program.parameters).size, np.float32)
    xp = Counting()
    Plan(program, memory=aligned_zeros((program.nbytes,), np.uint8), parameters=vector, gradients=vector.copy(), xp=xp)
    assert xp.allocated == []


def test_memory_that_is_too_small_is_refused():
    program = training(9)
    with pytest.raises(ValueError, match=rf"has {program.nbytes - 64} bytes, but the program needs {program.nbytes}"):
        Plan(program, memory=aligned_zeros((program.nbytes - 64,), np.uint8))


def test_nbytes_without_a_plan():
    """Two layers, computed by hand: inputs, the hidden values that backward reads, scores, and both gradients."""
    graph = build_classifier([Linear(units=32), ReLU(), Linear(units=16)], inputs=64)
    forward = Program.compile(graph, ("scores",), batch=10, backward=False)
    # The values of the linear layer and of its ReLU. The scores reuse the memory of the former.
    assert forward.nbytes == 4 * 10 * (64 + 32 + 32)
    both = Program.compile(graph, ("scores",), batch=10)
    # The value of ReLU is needed until the end. Its gradient reuses the memory of the linear layer's value, which has
    # the same size. The gradient of that value, the scores and the gradient of the scores have memory of their own.
    assert both.nbytes == 4 * 10 * (64 + 32 + 32 + 16 + 32)


def test_the_order_and_each_shape_are_computed_once(monkeypatch):
    counts = Counter()

    class Sorter(TopologicalSorter):
        def static_order(self):
            counts["order"] += 1
            return super().static_order()

    def infer(self, *shapes):
        counts["linear"] += 1
        return linear_shape(self, *shapes)

    linear_shape = Linear.infer
    graph = network()
    # This clears the shapes and the order that were cached while the graph was built.
    graph.input("unused", (BATCH,))
    monkeypatch.setattr("core.graph.graph.TopologicalSorter", Sorter)
    monkeypatch.setattr(Linear, "infer", infer)
    program = Program.compile(graph, ("loss", "scores"), batch=9, wrt=("scores",))
    assert counts == {"order": 1, "linear": 2}
    Plan(program)
    Plan(program)
    assert counts == {"order": 1, "linear": 2}


def test_order_is_updated_when_the_graph_changes():
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("first", ReLU(), "x")
    assert graph.order() == ["first"]
    graph.order().clear()
    graph.add("second", ReLU(), "first")
    assert graph.order() == ["first", "second"]
    graph.add("third", ReLU(), "fourth")
    with pytest.raises(GraphError, match="reads 'fourth'"):
        graph.order()


def test_shared_parameters_of_different_shapes_raise():
    graph = Graph()
    graph.input("words", (BATCH, 2), integer=True)
    graph.add("one", Embedding(entries=3, units=4), "words")
    graph.add("two", Embedding(entries=3, units=5), "words", share="one")
    with pytest.raises(GraphError, match=r"node 'two' needs one\.table of shape \(3, 5\)"):
        Program.compile(graph, ("two",))
