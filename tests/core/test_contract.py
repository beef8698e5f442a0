"""What every registered thing must keep, whoever adds it; its examples are in tests/core/fixtures/cases.py."""

import gc
import json
import tracemalloc
from dataclasses import MISSING, fields

import numpy as np
import pytest

from core import (
    Graph,
    Node,
    Plan,
    Program,
    RandomKey,
    from_spec,
    registered,
    to_spec,
)
from core.gradcheck.check import check_graph
from core.graph.graph import BATCH as BATCH_SIZE
from tests.core.fixtures.cases import CASES

KINDS = ("layer", "loss", "optimizer", "schedule", "initializer", "penalty", "clipping", "augmentation")

NODES = [case for case in CASES if isinstance(case.thing, Node)]
# f(x, x) of a node with a kink at x = y lies on it.
SMOOTH_BINARY = [
    case
    for case in NODES
    if len(case.inputs) == 2
    and len({make(np.random.default_rng(0)).shape for make in case.inputs}) == 1
    and type(case.thing).branches is Node.branches
    and getattr(case.thing, "target", "values") == "values"
]
NUMBER_LISTS = {"tuple[float, ...]", "tuple[int, ...]"}
ALL = [cls for kind in KINDS for cls in registered(kind).values()]

every_class = pytest.mark.parametrize("cls", ALL, ids=lambda cls: f"{cls.kind}-{cls.type}")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.thing))
every_node = pytest.mark.parametrize("case", NODES, ids=lambda case: str(case.thing))
seeds = pytest.mark.parametrize("seed", range(3))


def draw(case, seed, dtype=np.float64):
    """Return the data inputs and parameters of a case."""
    random = np.random.default_rng(seed)
    data = [make(random) for make in case.inputs]
    parameters = [random.normal(size=each.shape) for each in case.thing.parameters(*(each.shape for each in data))]
    return [each if each.dtype.kind == "i" else each.astype(dtype) for each in data + parameters]


def workspace_for(node, shapes, dtype, seed=7):
    """Return a workspace as a plan would lend it to forward, with NaN where nothing is promised."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, (shape, kind) in node.workspace(*shapes).items():
        if kind == "noise":
            arrays[name] = random.random(shape, np.float32)
        else:
            arrays[name] = np.full(shape, -(2**62), np.int64) if kind == "integer" else np.full(shape, np.nan, dtype)
    return arrays


def run(node, inputs, upstream_of, arrange=lambda array: array, dtype=np.float64):
    """Run forward and backward directly, on read-only inputs, with what backward may not read made NaN."""
    parameters = len(node.parameters(*(each.shape for each in inputs)))
    shapes = [each.shape for each in inputs[: len(inputs) - parameters]]
    inputs = [arrange(each) for each in inputs]
    output = np.full(node.infer(*shapes), np.nan, dtype)
    workspace = workspace_for(node, shapes, dtype)
    for each in inputs:
        each.flags.writeable = False
    node.forward(np, inputs, output, workspace)
    value = output.copy()

    upstream = arrange(upstream_of(output.shape).astype(dtype))
    if "output" not in node.retains:
        output.fill(np.nan)
    kept = list(inputs)
    if "inputs" not in node.retains:
        kept[: len(shapes)] = [
            np.full_like(each, np.nan) if each.dtype.kind == "f" else each for each in inputs[: len(shapes)]
        ]
    for name, (_, kind) in node.workspace(*shapes).items():
        if kind == "noise":
            del workspace[name]
        elif kind == "scratch":
            workspace[name].fill(np.nan)
        else:
            workspace[name].flags.writeable = False
    for each in (output, upstream, *kept):
        each.flags.writeable = False
    gradients = [np.full(each.shape, np.nan, dtype) if each.dtype.kind == "f" else None for each in inputs]
    node.backward(np, upstream, kept, output, workspace, gradients)
    return [value, *(each for each in gradients if each is not None)]


def upstream_of(seed):
    return lambda shape: np.random.default_rng(seed + 1000).normal(size=shape)


@every_class
def test_has_an_example(cls):
    assert any(type(case.thing) is cls for case in CASES), (
        f"{cls.kind} {cls.type!r} has no example: add `Case({cls.__name__}(...))` to CASES in {__file__}"
        + (", with a function that draws each data input" if issubclass(cls, Node) else "")
    )


@every_class
def test_says_what_it_is_and_what_its_fields_mean(cls):
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "this docstring was made up by dataclass"
    assert all(field.metadata["doc"] for field in fields(cls))


@every_case
def test_spec_survives_json(case):
    spec = to_spec(case.thing)
    assert spec["type"] == case.thing.type
    assert from_spec(case.thing.kind, json.loads(json.dumps(spec))) == case.thing


@every_case
def test_unknown_field_is_refused_by_name(case):
    with pytest.raises(ValueError, match=rf"{case.thing.type}\.colour"):
        from_spec(case.thing.kind, {**to_spec(case.thing), "colour": 1})


@every_case
def test_each_bound_is_kept(case):
    outside = {"ge": -1, "gt": 0, "le": 1, "lt": 0}
    for field in fields(case.thing):
        for name, step in outside.items():
            bound = field.metadata[name]
            if bound is None:
                continue
            beyond = bound + step
            wrong = (beyond,) if isinstance(getattr(case.thing, field.name), tuple) else beyond
            with pytest.raises(ValueError, match=rf"{case.thing.type}\.{field.name} must be .* {bound}, not {beyond}"):
                case.thing.replace(**{field.name: wrong})


@every_case
@pytest.mark.parametrize("wrong", [None, "many", True, [1]], ids=repr)
def test_wrong_types_are_refused_by_name(case, wrong):
    for field in fields(case.thing):
        annotation = str(type(case.thing).annotations[field.name])
        if (wrong is None and "None" in annotation) or (wrong == [1] and annotation in NUMBER_LISTS):
            continue
        if wrong is True and "bool" in annotation:
            continue
        error = ValueError if wrong == "many" and "Literal" in annotation else TypeError
        with pytest.raises(error, match=rf"{case.thing.type}\.{field.name}(\[0\])? must be"):
            from_spec(case.thing.kind, {**to_spec(case.thing), field.name: wrong})


@every_case
def test_missing_fields_are_named(case):
    required = [field.name for field in fields(case.thing) if field.default is MISSING]
    for name in required:
        spec = {key: value for key, value in to_spec(case.thing).items() if key != name}
        with pytest.raises(ValueError, match=rf"{case.thing.type}\.{name}"):
            from_spec(case.thing.kind, spec)


@every_case
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_are_finite(case, value):
    for field in fields(case.thing):
        if type(case.thing).annotations[field.name] is float:
            with pytest.raises(ValueError, match=rf"{case.thing.type}\.{field.name}"):
                case.thing.replace(**{field.name: value})


def graph_of(case, names):
    graph = Graph()
    arrays = draw(case, 0)
    for name, array in zip(names, arrays, strict=False):
        if name not in graph.inputs:
            graph.input(name, array.shape, integer=array.dtype.kind == "i")
    graph.add("node", case.thing, *names)
    return graph


@every_node
@seeds
def test_gradient(case, seed):
    names = [f"input{index}" for index in range(len(case.inputs))]
    inputs = dict(zip(names, draw(case, seed), strict=False))
    check_graph(graph_of(case, names), "node", inputs, seed).assert_ok()


@pytest.mark.parametrize("case", SMOOTH_BINARY, ids=lambda case: str(case.thing))
@seeds
def test_gradient_of_one_value_read_twice(case, seed):
    graph = graph_of(case, ["x", "x"])
    check_graph(graph, "node", {"x": draw(case, seed)[0]}, seed).assert_ok()


@every_node
@seeds
def test_float32_is_kept_and_agrees_with_float64(case, seed):
    exact = run(case.thing, draw(case, seed), upstream_of(seed))
    single = run(case.thing, draw(case, seed, np.float32), upstream_of(seed), dtype=np.float32)
    for one, other in zip(single, exact, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max(), err_msg=f"seed {seed}")


def spread(array):
    """Return the array as every second element of a larger one, which holds NaN between."""
    filler = np.nan if array.dtype.kind == "f" else -1
    larger = np.full(tuple(2 * size for size in array.shape), filler, array.dtype)
    view = larger[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def backwards(array):
    """Return the array through a view with negative strides."""
    flip = tuple(slice(None, None, -1) for _ in array.shape)
    return array[flip].copy()[flip]


@every_node
@pytest.mark.parametrize(
    "arrange", [lambda array: array.copy(order="F"), spread, backwards], ids=["F", "spread", "back"]
)
@seeds
def test_any_memory_layout(case, arrange, seed):
    plain = run(case.thing, draw(case, seed), upstream_of(seed))
    arranged = run(case.thing, draw(case, seed), upstream_of(seed), arrange)
    for one, other in zip(arranged, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13 * np.abs(other).max(), err_msg=f"seed {seed}")


@every_node
def test_no_rows(case):
    data = draw(case, 0)
    count = len(case.inputs)
    none = [each[:0] for each in data[:count]] + data[count:]
    value, *gradients = run(case.thing, none, upstream_of(0))
    assert value.shape[0] == 0
    for gradient, whole in zip(gradients, (each for each in none if each.dtype.kind == "f"), strict=True):
        assert gradient.shape == whole.shape
        assert not gradient.any(), "nothing flows back from no samples"


@every_node
def test_only_the_gradients_asked_for(case):
    inputs = draw(case, 0)
    node = case.thing
    shapes = [each.shape for each in inputs[: len(case.inputs)]]
    output = np.empty(node.infer(*shapes))
    workspace = workspace_for(node, shapes, np.float64)
    node.forward(np, inputs, output, workspace)
    upstream = upstream_of(0)(output.shape)
    _, *whole = run(node, inputs, upstream_of(0))
    wanted = [index for index, each in enumerate(inputs) if each.dtype.kind == "f"]
    for position, index in enumerate(wanted):
        gradients = [None] * len(inputs)
        gradients[index] = np.full(inputs[index].shape, np.nan)
        node.backward(np, upstream, inputs, output, workspace, gradients)
        np.testing.assert_array_equal(gradients[index], whole[position])


@pytest.mark.parametrize("case", [case for case in NODES if case.thing.arity > 1], ids=lambda case: str(case.thing))
def test_inputs_that_do_not_fit_together_are_refused(case):
    with pytest.raises(ValueError, match=r"needs .*\(4, 3\)"):
        case.thing.infer((4, 3), (3, 4))


def growth_over_a_pass(case, rows):
    """Return how many bytes a pass over as many rows takes at most beyond what the plan holds."""
    inputs = draw(case, 0, np.float32)[: len(case.inputs)]
    names = [f"input{index}" for index in range(len(inputs))]
    graph = Graph()
    for name, array in zip(names, inputs, strict=True):
        graph.input(name, (BATCH_SIZE, *array.shape[1:]), integer=array.dtype.kind == "i")
    graph.add("node", case.thing, *names)
    plan = Plan(
        Program.compile(graph, ("node",), batch=rows, wrt=[name for name in names if not graph.inputs[name].integer])
    )
    for name, array in zip(names, inputs, strict=True):
        plan.inputs[name][...] = np.resize(array, plan.inputs[name].shape)

    def step():
        plan.forward(RandomKey(1))
        plan.backward({"node": 1.0})

    step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@every_node
def test_a_pass_allocates_no_arrays(case):
    small, large = growth_over_a_pass(case, 10_000), growth_over_a_pass(case, 20_000)
    # What is left are the buffers of fixed size through which NumPy casts.
    assert large - small < 20_000, f"a pass allocates with the size of its batch: {small}, then {large} bytes"
