"""What every registered thing must keep, whoever adds it: the cases below are all that a new one needs."""

import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields

import numpy as np
import pytest

from core import (
    SGD,
    AbsoluteError,
    Add,
    Constant,
    Cosine,
    Exp,
    Graph,
    He,
    Hinge,
    Linear,
    Multiply,
    Node,
    Reciprocal,
    Registered,
    ReLU,
    Scale,
    Shift,
    Sigmoid,
    SoftmaxCrossEntropy,
    SquaredError,
    Subtract,
    Zeros,
    from_spec,
    registered,
    to_spec,
)
from core.gradcheck import check_graph

KINDS = ("layer", "node", "loss", "optimizer", "schedule", "initializer")
BATCH = 5


def real(*shape):
    return lambda random: random.normal(size=(BATCH, *shape))


def positive(*shape):
    return lambda random: random.uniform(0.5, 2, (BATCH, *shape))


def labels(classes):
    return lambda random: random.integers(0, classes, BATCH)


@dataclass(frozen=True)
class Case:
    """An example of a node and how to draw its data inputs. The other kinds need no inputs."""

    thing: Registered
    inputs: tuple[Callable[[np.random.Generator], np.ndarray], ...] = ()


CASES = [
    Case(Linear(units=3), (real(4),)),
    Case(Linear(units=1, weight=Zeros(), bias=He()), (real(1),)),
    Case(ReLU(), (real(4),)),
    Case(ReLU(), (real(2, 3),)),
    Case(Sigmoid(), (real(4),)),
    Case(Add(), (real(4), real(4))),
    Case(Subtract(), (real(4), real(4))),
    Case(Multiply(), (real(2, 3), real(2, 3))),
    Case(Scale(factor=-2.5), (real(4),)),
    Case(Shift(offset=0.3), (real(4),)),
    Case(Exp(), (real(4),)),
    Case(Reciprocal(), (positive(4),)),
    Case(Hinge(), (real(6), labels(6))),
    Case(Hinge(margin=0.25), (real(2), labels(2))),
    Case(SoftmaxCrossEntropy(), (real(6), labels(6))),
    Case(SoftmaxCrossEntropy(), (real(2), labels(2))),
    Case(SquaredError(), (real(4), real(4))),
    Case(SquaredError(), (real(), real())),
    Case(AbsoluteError(), (real(2, 3), real(2, 3))),
    Case(SGD()),
    Case(SGD(lr=0.5, momentum=0.9, schedule=Cosine())),
    Case(Constant()),
    Case(Cosine()),
    Case(He()),
    Case(Zeros()),
]
NODES = [case for case in CASES if isinstance(case.thing, Node)]
# f(x, x) of a node with a kink at x = y lies on it.
SMOOTH_BINARY = [
    case
    for case in NODES
    if case.thing.arity == 2
    and type(case.thing).branches is Node.branches
    and getattr(case.thing, "target", "values") == "values"
]
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


def run(node, inputs, upstream_of, arrange=lambda array: array):
    """Run forward and backward directly, on read-only inputs, with what backward may not read made NaN."""
    shapes = [each.shape for each in inputs[: node.arity]]
    dtype = inputs[0].dtype
    inputs = [arrange(each) for each in inputs]
    output = np.full(node.infer(*shapes), np.nan, dtype)
    kinds = {"float": dtype, "integer": np.int64}
    workspace = {name: np.zeros(shape, kinds[kind]) for name, (shape, kind) in node.workspace(*shapes).items()}
    for each in inputs:
        each.flags.writeable = False
    node.forward(np, inputs, output, workspace)
    value = output.copy()

    upstream = arrange(upstream_of(output.shape).astype(dtype))
    if "output" not in node.retains:
        output.fill(np.nan)
    kept = list(inputs)
    if "inputs" not in node.retains:
        kept = [np.full_like(each, np.nan) if each.dtype.kind == "f" else each for each in inputs]
    for each in (output, upstream, *kept, *workspace.values()):
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
            with pytest.raises(ValueError, match=rf"{case.thing.type}\.{field.name} must be .* {bound}, not {beyond}"):
                case.thing.replace(**{field.name: beyond})


@every_case
@pytest.mark.parametrize("wrong", [None, "many", True, [1]], ids=repr)
def test_wrong_types_are_refused_by_name(case, wrong):
    for field in fields(case.thing):
        with pytest.raises(TypeError, match=rf"{case.thing.type}\.{field.name} must be"):
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
    names = [f"input{index}" for index in range(case.thing.arity)]
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
    single = run(case.thing, draw(case, seed, np.float32), upstream_of(seed))
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
    arity = case.thing.arity
    none = [each[:0] for each in data[:arity]] + data[arity:]
    value, *gradients = run(case.thing, none, upstream_of(0))
    assert value.shape[0] == 0
    for gradient, whole in zip(gradients, (each for each in none if each.dtype.kind == "f"), strict=True):
        assert gradient.shape == whole.shape
        assert not gradient.any(), "nothing flows back from no samples"


@every_node
def test_only_the_gradients_asked_for(case):
    inputs = draw(case, 0)
    node = case.thing
    shapes = [each.shape for each in inputs[: node.arity]]
    output = np.empty(node.infer(*shapes))
    kinds = {"float": np.float64, "integer": np.int64}
    workspace = {name: np.zeros(shape, kinds[kind]) for name, (shape, kind) in node.workspace(*shapes).items()}
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
    with pytest.raises(ValueError, match=rf"{case.thing.type} needs .*\(4, 3\)"):
        case.thing.infer((4, 3), (3, 4))
