"""Nodes that reduce, select and reshape, against NumPy and loops. Ties and invalid shapes."""

import math
from inspect import isfunction

import numpy as np
import pytest

from core import (
    BATCH,
    Bias,
    Concat,
    Crop,
    Embedding,
    Flatten,
    Graph,
    GraphError,
    LogSoftmax,
    Max,
    Maxout,
    Mean,
    Min,
    OneHot,
    Plan,
    Program,
    Reshape,
    Select,
    Slice,
    Softmax,
    Sum,
    Upsample,
    ZeroPad,
)
from core.gradcheck.check import check_graph
from tests.core.fixtures.direct import evaluate

X = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
AXES = [(), (1,), (-1,), (2, 1), (1, -1), (3, 2, 1)]


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize(("cls", "function"), [(Sum, np.sum), (Mean, np.mean), (Max, np.max), (Min, np.min)])
def test_reductions(cls, function, axes):
    gone = axes or (1, 2, 3)
    value, gradient = evaluate(cls(axes=axes), X, upstream=2.0)
    np.testing.assert_allclose(value, function(X, axis=gone), rtol=1e-13, atol=1e-14)
    slope = {
        Sum: np.ones_like(X),
        Mean: np.full_like(X, 1 / math.prod(X.shape[axis] for axis in gone)),
    }.get(cls, (function(X, axis=gone, keepdims=True) == X).astype(float))
    np.testing.assert_allclose(gradient, 2 * slope, rtol=1e-15)


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (Sum(axes=(0,)), (3, 4), "sum needs an axis from 1 to 1, or from the back -1 to -1, not 0"),
        (Max(axes=(-2,)), (3, 4), "max needs .* not -2: axis 0 is the batch axis"),
        (Mean(axes=(1, -1)), (3, 4), "mean needs axes without duplicates"),
        (Sum(), (), "sum needs an input of shape"),
        (Reshape(shape=(2, 3)), (7, 5), r"reshape to \(2, 3\) needs 6 elements per sample, not shape \(7, 5\)"),
        (Flatten(), (), "flatten needs"),
        (
            Slice(start=2, stop=5),
            (7, 4),
            r"slice from 2 to 5 is out of range along axis 1 of an input of shape \(7, 4\)",
        ),
        (Slice(start=4), (7, 4), "slice from 4 to 4 is out of range"),
        (Slice(axis=0), (7, 4), "axis 0 is the batch axis"),
        (Select(index=4), (7, 4), "select needs an index below 4 along axis 1"),
        (Maxout(pieces=3), (7, 4), r"maxout needs .* a multiple of 3\), not \(7, 4\)"),
        (Softmax(), (7,), "softmax needs"),
        (LogSoftmax(), (7,), "log_softmax needs"),
        (Bias(), (7,), "bias needs"),
        (ZeroPad(padding=1), (7, 4), r"zero_pad needs an input of .* three or more axes, not \(7, 4\)"),
        (ZeroPad(padding=(1, 2, 3)), (7, 4, 4, 2), r"padding must be one number, or a list of 2 or 4, not \(1, 2, 3\)"),
        (ZeroPad(channels=(1, 2, 3)), (7, 4, 4, 2), r"zero_pad\.channels must be .* of 1 or 2"),
        (Upsample(factor=2), (7, 4), "upsample needs an input of"),
        (Upsample(factor=(2, 1)), (7, 4, 3), r"upsample\.factor must be one number, or a list of 1, not \(2, 1\)"),
        (Crop(margin=1), (7, 4), "crop needs an input of"),
        (Crop(margin=(1, 2, 3)), (7, 4, 2), r"crop\.margin must be one number, or a list of 1 or 2"),
        (
            Crop(margin=(0, 2)),
            (7, 5, 4, 2),
            r"crop\.margin of \(0, 2\) leaves nothing of an input of shape \(7, 5, 4, 2\)",
        ),
    ],
    ids=str,
)
def test_invalid_shapes_raise(node, shape, message):
    with pytest.raises(ValueError, match=message):
        node.infer(shape)


@pytest.mark.parametrize(
    ("sides", "shape", "around"),
    [
        (2, (6, 5, 3), ((2, 2), (2, 2))),
        ((2, 1), (6, 5, 3), ((2, 2), (1, 1))),
        ((2, 0, 1, 3), (6, 5, 3), ((2, 0), (1, 3))),
        (2, (6, 3), ((2, 2),)),
        ((2,), (6, 3), ((2, 2),)),
        ((0, 2), (6, 3), ((0, 2),)),
    ],
    ids=str,
)
def test_padding_and_cropping(sides, shape, around):
    x = np.random.default_rng(0).normal(size=(2, *shape))
    padded = np.pad(x, ((0, 0), *around, (0, 0)))
    inner = tuple(slice(before, size - after) for size, (before, after) in zip(shape, around, strict=False))
    upstream = np.random.default_rng(1).normal(size=padded.shape)
    value, gradient = evaluate(ZeroPad(padding=sides), x, upstream=upstream)
    np.testing.assert_array_equal(value, padded)
    whole = tuple(slice(before, before + size) for size, (before, _) in zip(shape, around, strict=False))
    np.testing.assert_array_equal(gradient, upstream[:, *whole])
    value, gradient = evaluate(Crop(margin=sides), x, upstream=(cut := x[:, *inner]) + 1)
    np.testing.assert_array_equal(value, cut)
    np.testing.assert_array_equal(gradient, np.pad(cut + 1, ((0, 0), *around, (0, 0))))


@pytest.mark.parametrize(("channels", "around"), [(2, (2, 2)), ((3,), (3, 3)), ((0, 3), (0, 3))], ids=str)
def test_padding_of_channels(channels, around):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    value, gradient = evaluate(ZeroPad(channels=channels), x, upstream=2.0)
    np.testing.assert_array_equal(value, np.pad(x, ((0, 0), (0, 0), (0, 0), around)))
    np.testing.assert_array_equal(gradient, np.full_like(x, 2))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("factor", "shape"), [(2, (3, 2, 2)), ((3, 1), (1, 4, 2)), ((4, 5), (3, 1, 1)), (3, (4, 2))])
def test_upsampling(factor, shape, mode):
    x = np.random.default_rng(0).normal(size=(2, *shape))
    factors = (factor,) * (len(shape) - 1) if isinstance(factor, int) else factor
    # The weights of the pixels in each enlarged pixel, along each axis, written as a loop over the enlarged pixels.
    weights = []
    for size, times in zip(shape, factors, strict=False):
        matrix = np.zeros((size * times, size))
        for place, row in enumerate(matrix):
            if mode == "nearest":
                row[place // times] = 1
            else:
                below, beyond = divmod((place + 0.5) / times - 0.5, 1)
                row[max(int(below), 0)] += 1 - beyond
                row[min(int(below) + 1, size - 1)] += beyond
        weights.append(matrix)
    subscripts = "ai,niz->naz" if len(weights) == 1 else "ai,bj,nijz->nabz"
    expected = np.einsum(subscripts, *weights, x)
    upstream = np.random.default_rng(1).normal(size=expected.shape)
    value, gradient = evaluate(Upsample(factor=factor, mode=mode), x, upstream=upstream)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-14)
    back = "ai,naz->niz" if len(weights) == 1 else "ai,bj,nabz->nijz"
    np.testing.assert_allclose(gradient, np.einsum(back, *weights, upstream), rtol=1e-13, atol=1e-13)


def test_multiply_adds_of_upsampling_count_the_products():
    assert Upsample(factor=2).multiply_adds((5, 3, 4, 2)) == 0
    assert Upsample(factor=(2, 3), mode="linear").multiply_adds((5, 3, 4, 2)) == 5 * (6 * 4 * 2 * 3 + 6 * 12 * 2 * 4)


def test_ties_divide_the_gradient_equally():
    _, gradient = evaluate(Max(), [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-np.inf, -np.inf, 0.0]], upstream=[6, 6, 6])
    assert gradient.tolist() == [[0, 3, 3], [2, 2, 2], [0, 0, 6]]
    _, gradient = evaluate(Min(), [[1.0, 3.0, 1.0], [np.inf, 0.0, np.inf]], upstream=[6, 6])
    assert gradient.tolist() == [[3, 0, 3], [0, 6, 0]]
    value, gradient = evaluate(Maxout(), [[1.0, 1.0, 0.0, np.nextafter(0, 1)]], upstream=[[6.0, 6.0]])
    assert value.tolist() == [[1, np.nextafter(0, 1)]]
    assert gradient.tolist() == [[3, 3, 0, 6]]


def test_maxout_reduces_adjacent_elements():
    value, gradient = evaluate(Maxout(pieces=3), [[1.0, 5.0, 2.0, 7.0, -1.0, 6.0]], upstream=[[2.0, 3.0]])
    assert value.tolist() == [[5, 7]]
    assert gradient.tolist() == [[0, 2, 0, 3, 0, 0]]


def test_concat_against_numpy():
    parts = [X[:, :1], X, X[:, :0]]
    upstream = np.random.default_rng(1).normal(size=(3, 3, 4, 5))
    value, *gradients = evaluate(Concat(axis=1), *parts, upstream=upstream)
    np.testing.assert_array_equal(value, np.concatenate(parts, axis=1))
    for gradient, part in zip(gradients, np.split(upstream, [1, 3], axis=1), strict=True):
        np.testing.assert_array_equal(gradient, part)


def test_concat_takes_any_number_of_inputs_in_a_graph():
    graph = Graph()
    graph.input("x", (BATCH, 2))
    graph.add("twice", Concat(), "x", "x")
    graph.add("thrice", Concat(), "x", "twice", "x")
    check_graph(graph, "thrice", {"x": X[0, 0, :3, :2]}).assert_ok()
    with pytest.raises(GraphError, match=r"node 'one' \(Concat\) takes at least 2 inputs, not 1"):
        graph.add("one", Concat(), "x")
    with pytest.raises(GraphError, match=r"takes 1 inputs, not 2"):
        graph.add("two", Sum(), "x", "x")


@pytest.mark.parametrize(
    ("node", "select"),
    [
        (Slice(start=1), lambda x: x[..., 1:]),
        (Slice(start=1, stop=2, axis=1), lambda x: x[:, 1:2]),
        (Slice(stop=3, axis=-2), lambda x: x[:, :, :3]),
        (Select(index=2), lambda x: x[..., 2]),
        (Select(index=1, axis=1), lambda x: x[:, 1]),
        (Flatten(), lambda x: x.reshape(3, 40)),
        (Reshape(shape=(8, 5)), lambda x: x.reshape(3, 8, 5)),
    ],
    # Without the functions, whose text has an address that differs between runs.
    ids=lambda value: None if isfunction(value) else str(value),
)
def test_selecting_and_reshaping(node, select):
    upstream = np.random.default_rng(1).normal(size=select(X).shape)
    value, gradient = evaluate(node, X, upstream=upstream)
    np.testing.assert_array_equal(value, select(X))
    expected = np.zeros_like(X)
    select(expected)[...] = upstream
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_embedding_sums_gradients_of_repeated_rows(dtype):
    indices = np.array([[0, 2], [2, 2], [1, 0]], dtype)
    table = np.arange(8.0).reshape(4, 2)
    upstream = np.random.default_rng(0).normal(size=(3, 2, 2))
    value, *_, gradient = evaluate(Embedding(entries=4, units=2), indices, table, upstream=upstream)
    expected = np.zeros_like(table)
    for place in np.ndindex(3, 2):
        np.testing.assert_array_equal(value[place], table[int(indices[place])])
        expected[int(indices[place])] += upstream[place]
    np.testing.assert_allclose(gradient, expected, rtol=1e-15)


def test_indices_out_of_range_are_clipped():
    indices = np.array([-(2**62), -1, 3, 2**62])
    value, _ = evaluate(OneHot(classes=3), indices.astype(np.float64))
    assert value.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]
    value, gradient = evaluate(Embedding(entries=3, units=1), indices, [[5.0], [6.0], [7.0]])
    assert value.ravel().tolist() == [5, 5, 7, 7]
    assert gradient.ravel().tolist() == [2, 0, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_and_log_softmax_of_large_arguments(dtype):
    x = [[1e4, -1e4, 0], [5, -20, -20], [0, 0, 0]]
    shares, _ = evaluate(Softmax(), x, dtype=dtype)
    tiny = math.exp(-25)
    np.testing.assert_allclose(shares, [[1, 0, 0], [1, tiny, tiny], [1 / 3] * 3], rtol=1e-6)
    logarithms, gradient = evaluate(LogSoftmax(), x, upstream=[[0, 1, 0], [1, 0, 0], [3, 0, 0]], dtype=dtype)
    expected = [[0, -2e4, -1e4], [-2 * tiny, -25, -25], [-math.log(3)] * 3]
    np.testing.assert_allclose(logarithms, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[::2], [[-1, 1, 0], [2, -1, -1]], rtol=1e-6, atol=1e-6)


def test_indices_train_through_a_plan():
    graph = Graph()
    graph.input("words", (BATCH, 3), integer=True)
    graph.add("vectors", Embedding(entries=5, units=2), "words")
    graph.add("mean", Mean(axes=(1,)), "vectors")
    plan = Plan(Program.compile(graph, ("mean",), batch=2, dtype=np.float64))
    plan.inputs["words"][...] = [[0, 0, 4], [1, 2, 4]]
    plan.forward()
    plan.backward({"mean": 3.0})
    assert plan.layout.views(plan.gradients)["vectors.table"][:, 0].tolist() == [2, 1, 1, 0, 2]
