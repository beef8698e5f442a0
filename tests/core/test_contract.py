"""What every registered thing must keep, whoever adds it: the cases below are all that a new one needs."""

import gc
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields

import numpy as np
import pytest

from core import (
    ELU,
    GELU,
    L1,
    L2,
    SGD,
    Abs,
    AbsoluteError,
    Adagrad,
    Adam,
    AdamW,
    Add,
    BatchNorm,
    Bias,
    BinaryMargin,
    Concat,
    Constant,
    ConstantInitializer,
    Cosine,
    Dropout,
    ElasticNet,
    Embedding,
    Exp,
    ExponentialDecay,
    Flatten,
    Glorot,
    GlorotUniform,
    Graph,
    HardTanh,
    He,
    HeUniform,
    Hinge,
    Huber,
    Identity,
    InverseDecay,
    LayerNorm,
    LeakyReLU,
    LeCun,
    LeCunUniform,
    Linear,
    Log,
    LogSigmoid,
    LogSoftmax,
    Max,
    Maxout,
    Mean,
    MeanSquaredError,
    Multiply,
    Node,
    Normal,
    NormClipping,
    OneHot,
    Plan,
    Power,
    PReLU,
    RandomKey,
    Reciprocal,
    Registered,
    ReLU,
    ReLU6,
    Reshape,
    RMSProp,
    Scale,
    Select,
    Shift,
    Sigmoid,
    SigmoidCrossEntropy,
    Slice,
    SmoothL1,
    SoftMargin,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    Softshrink,
    Softsign,
    Sqrt,
    Square,
    SquaredError,
    StepDecay,
    Subtract,
    Sum,
    Swish,
    Tanh,
    Uniform,
    ValueClipping,
    Warmup,
    WeightedSum,
    Zeros,
    from_spec,
    registered,
    to_spec,
)
from core.gradcheck import check_graph
from core.graph import BATCH as BATCH_SIZE

KINDS = ("layer", "node", "loss", "optimizer", "schedule", "initializer", "penalty", "clipping")
BATCH = 5


def real(*shape):
    return lambda random: random.normal(size=(BATCH, *shape))


def positive(*shape):
    return lambda random: random.uniform(0.5, 2, (BATCH, *shape))


def labels(classes, *shape):
    return lambda random: random.integers(0, classes, (BATCH, *shape))


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
    Case(Add(), (real(2, 3), real(2, 3), real(2, 3))),
    Case(Subtract(), (real(4), real(4))),
    Case(Multiply(), (real(2, 3), real(2, 3))),
    Case(Scale(factor=-2.5), (real(4),)),
    Case(Shift(offset=0.3), (real(4),)),
    Case(Exp(), (real(4),)),
    Case(Reciprocal(), (positive(4),)),
    Case(Abs(), (real(4),)),
    Case(Log(), (positive(4),)),
    Case(Sqrt(), (positive(4),)),
    Case(Square(), (real(4),)),
    Case(Power(exponent=3), (real(4),)),
    Case(Power(exponent=-1.5), (positive(4),)),
    Case(Max(), (real(4),)),
    Case(Max(axes=(-1,)), (real(3, 4),)),
    Case(Mean(), (real(3, 4),)),
    Case(Mean(axes=(1,)), (real(3, 4),)),
    Case(Sum(), (real(),)),
    Case(Sum(axes=(2, 1)), (real(2, 3, 4),)),
    Case(Concat(), (real(2), real(3))),
    Case(Concat(axis=1), (real(1, 2), real(3, 2), real(2, 2))),
    Case(Tanh(), (real(4),)),
    Case(HardTanh(), (real(4),)),
    Case(ReLU6(), (real(8),)),
    Case(LeakyReLU(), (real(4),)),
    Case(LeakyReLU(slope=0.0), (real(4),)),
    Case(PReLU(), (real(4),)),
    Case(PReLU(slope=Zeros()), (real(2, 3),)),
    Case(ELU(), (real(4),)),
    Case(ELU(alpha=2.5), (real(4),)),
    Case(Softplus(), (real(4),)),
    Case(LogSigmoid(), (real(4),)),
    Case(Softsign(), (real(4),)),
    Case(Softshrink(), (real(4),)),
    Case(Swish(), (real(4),)),
    Case(Swish(beta=2.0), (real(4),)),
    Case(GELU(), (real(4),)),
    Case(Softmax(), (real(4),)),
    Case(Softmax(), (real(2, 3),)),
    Case(LogSoftmax(), (real(4),)),
    Case(LogSoftmax(), (real(2, 3),)),
    Case(Maxout(), (real(6),)),
    Case(Maxout(pieces=3), (real(2, 6),)),
    Case(Bias(), (real(2, 3),)),
    Case(Flatten(), (real(2, 3),)),
    Case(Flatten(), (real(),)),
    Case(Reshape(shape=(3, 2)), (real(6),)),
    Case(Slice(start=1), (real(4),)),
    Case(Slice(start=1, stop=3, axis=1), (real(4, 2),)),
    Case(Select(index=2), (real(4),)),
    Case(Select(index=0, axis=-2), (real(4, 2),)),
    Case(Embedding(entries=4, units=3), (labels(4),)),
    Case(Embedding(entries=3, units=2), (labels(3, 4),)),
    Case(OneHot(classes=4), (labels(4),)),
    Case(Dropout(), (real(6),)),
    Case(Dropout(rate=0.0), (real(2, 3),)),
    Case(Identity(), (real(4),)),
    Case(BatchNorm(), (real(4),)),
    Case(BatchNorm(momentum=1.0, epsilon=0.1), (real(2, 3),)),
    Case(LayerNorm(), (real(4),)),
    Case(LayerNorm(epsilon=0.1), (real(2, 3),)),
    Case(Hinge(), (real(6), labels(6))),
    Case(Hinge(margin=0.25), (real(2), labels(2))),
    Case(SoftmaxCrossEntropy(), (real(6), labels(6))),
    Case(SoftmaxCrossEntropy(), (real(2), labels(2))),
    Case(SoftmaxCrossEntropy(label_smoothing=0.1), (real(6), labels(6))),
    Case(SoftmaxCrossEntropy(label_smoothing=0.3, class_weights=(1, 0, 0.5)), (real(3), labels(3))),
    Case(Hinge(squared=True, class_weights=(1, 2, 0.5)), (real(3), labels(3))),
    Case(Hinge(form="crammer_singer"), (real(6), labels(6))),
    Case(Hinge(form="crammer_singer", squared=True, margin=2), (real(3), labels(3))),
    Case(Hinge(form="one_vs_all"), (real(6), labels(6))),
    Case(Hinge(form="one_vs_all", squared=True, class_weights=(1, 2, 0.5)), (real(3), labels(3))),
    Case(SquaredError(), (real(4), real(4))),
    Case(SquaredError(), (real(), real())),
    Case(AbsoluteError(), (real(2, 3), real(2, 3))),
    Case(MeanSquaredError(), (real(2, 3), real(2, 3))),
    Case(Huber(), (real(4), real(4))),
    Case(Huber(delta=0.5), (real(2, 3), real(2, 3))),
    Case(SmoothL1(), (real(4), real(4))),
    Case(SmoothL1(beta=0.5), (real(2, 3), real(2, 3))),
    Case(SigmoidCrossEntropy(), (real(), labels(2))),
    Case(SigmoidCrossEntropy(class_weights=(0.5, 2)), (real(1), labels(2))),
    Case(SigmoidCrossEntropy(), (real(4), labels(4))),
    Case(SoftMargin(), (real(1), labels(2))),
    Case(SoftMargin(class_weights=(0.5, 2)), (real(), labels(2))),
    Case(BinaryMargin(), (real(1), labels(2))),
    Case(BinaryMargin(margin=0.3), (real(), labels(2))),
    Case(WeightedSum(losses=(Hinge(), SoftmaxCrossEntropy()), weights=(0.5, -2)), (real(4), labels(4))),
    Case(WeightedSum(losses=(SquaredError(), AbsoluteError()), weights=(1, 0.1)), (real(2, 3), real(2, 3))),
    Case(SGD()),
    Case(SGD(lr=0.5, momentum=0.9, nesterov=True, schedule=Cosine())),
    Case(Adagrad()),
    Case(Adam()),
    Case(AdamW(weight_decay=0.1)),
    Case(RMSProp()),
    Case(Constant()),
    Case(Cosine()),
    Case(ExponentialDecay(decay=0.99)),
    Case(InverseDecay(decay=0.01)),
    Case(StepDecay(every=100)),
    Case(Warmup(steps=10, then=Cosine())),
    Case(ConstantInitializer(value=0.1)),
    Case(Glorot()),
    Case(GlorotUniform()),
    Case(He()),
    Case(HeUniform()),
    Case(LeCun()),
    Case(LeCunUniform()),
    Case(Normal()),
    Case(Uniform()),
    Case(Zeros()),
    Case(ElasticNet(l1=0.1, l2=0.2)),
    Case(L1(weight=0.1)),
    Case(L2(weight=0.1)),
    Case(NormClipping(limit=1.0)),
    Case(ValueClipping(limit=1.0)),
]
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
    plan = Plan(graph, ("node",), batch=rows, wrt=[name for name in names if not graph.inputs[name].integer])
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
