"""Convolution and pooling against their definitions, written as loops over windows."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    BATCH,
    AveragePool1d,
    AveragePool2d,
    Conv1d,
    Conv2d,
    Conv2dTranspose,
    Graph,
    GraphError,
    MaxPool1d,
    MaxPool2d,
    Plan,
    Program,
)
from core.initializers.base import fan_in, fan_out
from core.kernels import im2row, lines

FEW = settings(max_examples=60, deadline=None)


def passes(layer, x, upstream_of):
    """Return output, gradient of x, and gradients of the parameters, with parameters drawn at random."""
    graph = Graph()
    graph.input("x", (BATCH, *x.shape[1:]))
    graph.add("y", layer, "x")
    plan = Plan(Program.compile(graph, ("y",), batch=len(x), dtype=np.float64, wrt=("x",)))
    plan.parameters[:] = np.random.default_rng(7).normal(size=plan.parameters.shape)
    plan.inputs["x"][...] = x
    plan.forward()
    upstream = upstream_of(plan.value("y").shape)
    plan.backward({"y": upstream})
    parameters, gradients = plan.layout.views(plan.parameters), plan.layout.views(plan.gradients)
    return plan.value("y").copy(), plan.gradient("x").copy(), parameters, gradients, upstream


def passes_in_blocks(block, *arguments):
    """Return the same with blocks of this size; small images are wide, and have many windows, from 4 and 20 on."""
    with pytest.MonkeyPatch.context() as patch:
        for kernels in (im2row, lines):
            patch.setattr(kernels, "BLOCK", block)
        patch.setattr(lines, "WIDE", 4)
        patch.setattr(lines, "MANY", 20)
        return passes(*arguments)


def pairs(low, high):
    number = st.integers(low, high)
    return st.one_of(number, st.tuples(number, number))


def geometries(size, padding):
    """Random images, windows, groups and blocks; images and paddings up to these numbers."""
    return {
        "image": st.tuples(st.integers(1, 3), st.integers(1, size), st.integers(1, size)),
        "kernel": pairs(1, 4),
        "step": st.tuples(pairs(1, 3), pairs(1, 2)),
        "padding": st.one_of(st.sampled_from(["valid", "same"]), pairs(0, padding)),
        "groups": st.integers(1, 3),
        "block": st.sampled_from([1, 40, 10**6]),
        "seed": st.integers(0, 2**32),
    }


def both(number):
    return (number, number) if isinstance(number, int) else number


def normal(seed):
    return lambda shape: np.random.default_rng(seed).normal(size=shape)


@FEW
@given(**geometries(size=9, padding=5))
def test_convolution_is_the_sum_over_windows(image, kernel, step, padding, groups, block, seed):
    stride, dilation = step
    channels, filters = 2 * groups, 3 * groups
    x = np.random.default_rng(seed).normal(size=(*image, channels))
    layer = Conv2d(filters=filters, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    (kh, kw), (sh, sw), (dh, dw) = both(kernel), both(stride), both(dilation)
    extent = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    if padding == "same":
        counts = tuple(-(-size // step) for size, step in zip(image[1:], (sh, sw), strict=True))
        totals = [
            max(0, (count - 1) * step + reach - size)
            for count, step, reach, size in zip(counts, (sh, sw), extent, image[1:], strict=True)
        ]
        around = [(total // 2, total - total // 2) for total in totals]
    else:
        around = [(each, each) for each in both(0 if padding == "valid" else padding)]
    padded = np.pad(x, ((0, 0), *around, (0, 0)))
    room = [padded.shape[axis] - extent[axis - 1] for axis in (1, 2)]
    if min(room) < 0:
        with pytest.raises(GraphError, match=r"conv2d has windows of \d+ in (height|width).*, but the image has"):
            passes(layer, x, normal(seed))
        return
    output, x_gradient, parameters, gradients, upstream = passes_in_blocks(block, layer, x, normal(seed))
    weight, bias = parameters["y.weight"], parameters["y.bias"]
    expected = np.zeros((len(x), room[0] // sh + 1, room[1] // sw + 1, filters)) + bias
    padded_gradient, weight_gradient = np.zeros_like(padded), np.zeros_like(weight)
    for row, column, i, j, f, c in product(*map(range, (*expected.shape[1:3], kh, kw, filters, 2))):
        channel = f // 3 * 2 + c
        place = (slice(None), row * sh + i * dh, column * sw + j * dw, channel)
        expected[:, row, column, f] += padded[place] * weight[i, j, c, f]
        padded_gradient[place] += upstream[:, row, column, f] * weight[i, j, c, f]
        weight_gradient[i, j, c, f] += padded[place] @ upstream[:, row, column, f]
    inner = tuple(slice(before, before + size) for (before, _), size in zip(around, image[1:], strict=True))
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10, err_msg=f"seed {seed}")
    np.testing.assert_allclose(x_gradient, padded_gradient[:, inner[0], inner[1]], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients["y.weight"], weight_gradient, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients["y.bias"], upstream.sum(axis=(0, 1, 2)), rtol=1e-10, atol=1e-10)


@FEW
@given(**geometries(size=5, padding=3))
def test_transposed_convolution_adds_windows(image, kernel, step, padding, groups, block, seed):
    stride, dilation = step
    x = np.random.default_rng(seed).normal(size=(*image, 2 * groups))
    layer = Conv2dTranspose(
        filters=3 * groups, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    (kh, kw), (sh, sw), (dh, dw) = both(kernel), both(stride), both(dilation)
    extent = (kh - 1) * dh + 1, (kw - 1) * dw + 1
    whole = [(size - 1) * step + reach for size, step, reach in zip(image[1:], (sh, sw), extent, strict=True)]
    if padding == "same":
        sizes = [size * step for size, step in zip(image[1:], (sh, sw), strict=True)]
        before = [max(0, all_of - size) // 2 for all_of, size in zip(whole, sizes, strict=True)]
    else:
        before = both(0 if padding == "valid" else padding)
        sizes = [all_of - 2 * each for all_of, each in zip(whole, before, strict=True)]
    if min(sizes) < 1:
        with pytest.raises(GraphError, match=r"conv2d_transpose has a (height|width) of \d+, of which a padding of"):
            passes(layer, x, normal(seed))
        return
    output, x_gradient, parameters, gradients, upstream = passes_in_blocks(block, layer, x, normal(seed))
    weight, bias = parameters["y.weight"], parameters["y.bias"]
    assert weight.shape == (kh, kw, 3, 2 * groups)
    expected = np.zeros((len(x), *sizes, 3 * groups)) + bias
    expected_gradient, weight_gradient = np.zeros_like(x), np.zeros_like(weight)
    for row, column, i, j, c, f in product(*map(range, (*image[1:], kh, kw, 2 * groups, 3))):
        y, z = row * sh + i * dh - before[0], column * sw + j * dw - before[1]
        if not (0 <= y < sizes[0] and 0 <= z < sizes[1]):
            continue
        place = (slice(None), y, z, c // 2 * 3 + f)
        expected[place] += x[:, row, column, c] * weight[i, j, f, c]
        expected_gradient[:, row, column, c] += upstream[place] * weight[i, j, f, c]
        weight_gradient[i, j, f, c] += x[:, row, column, c] @ upstream[place]
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10, err_msg=f"seed {seed}")
    np.testing.assert_allclose(x_gradient, expected_gradient, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients["y.weight"], weight_gradient, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients["y.bias"], upstream.sum(axis=(0, 1, 2)), rtol=1e-10, atol=1e-10)


def pooled_windows(size, kernel, stride, padding, ceil):
    """Return the beginning and end of each window, in pixels, as Caffe's pooling has them."""
    count = (size + 2 * padding - kernel) / stride
    count = int(np.ceil(count) if ceil else np.floor(count)) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    starts = [number * stride - padding for number in range(count)]
    return [(start, min(start + kernel, size + padding)) for start in starts]


@FEW
@given(
    image=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    kernel=pairs(1, 4),
    stride=pairs(1, 4),
    padding=pairs(0, 3),
    ceil=st.booleans(),
    tied=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_pooling_reduces_windows(image, kernel, stride, padding, ceil, tied, seed):
    random = np.random.default_rng(seed)
    x = random.integers(0, 2, image).astype(float) if tied else random.normal(size=image)
    settings = list(zip(both(kernel), both(stride), both(padding), strict=True))
    fits = all(p < k <= size + 2 * p for size, (k, _, p) in zip(image[1:3], settings, strict=True))
    options = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil}
    if not fits:
        for kind in (MaxPool2d, AveragePool2d):
            with pytest.raises(GraphError, match=rf"{kind.type}( has windows of|\.padding must be smaller)"):
                passes(kind(**options), x, normal(seed))
        return
    rows, columns = (pooled_windows(size, *each, ceil) for size, each in zip(image[1:3], settings, strict=True))
    largest, largest_gradient, *_, upstream = passes(MaxPool2d(**options), x, normal(seed))
    mean, mean_gradient, *_ = passes(AveragePool2d(**options), x, normal(seed))
    assert largest.shape == mean.shape == (image[0], len(rows), len(columns), image[3])
    expected_of_largest, expected_of_mean = np.zeros_like(x), np.zeros_like(x)
    for (r, (top, bottom)), (c, (left, right)) in product(enumerate(rows), enumerate(columns)):
        window = (slice(None), slice(max(top, 0), bottom), slice(max(left, 0), right))
        size = (bottom - top) * (right - left)
        np.testing.assert_allclose(mean[:, r, c], x[window].sum(axis=(1, 2)) / size, rtol=1e-12, atol=1e-12)
        expected_of_mean[window] += upstream[:, r, c][:, None, None] / size
        for n, channel in product(range(image[0]), range(image[3])):
            values = x[window][n, :, :, channel]
            assert largest[n, r, c, channel] == values.max()
            i, j = np.unravel_index(values.argmax(), values.shape)  # the first of ties
            expected_of_largest[n, max(top, 0) + i, max(left, 0) + j, channel] += upstream[n, r, c, channel]
    np.testing.assert_allclose(largest_gradient, expected_of_largest, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mean_gradient, expected_of_mean, rtol=1e-12, atol=1e-12)


@FEW
@given(
    sequence=st.tuples(st.integers(1, 3), st.integers(1, 12)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.one_of(st.sampled_from(["valid", "same"]), st.integers(0, 5)),
    groups=st.integers(1, 2),
    seed=st.integers(0, 2**32),
)
def test_convolution_of_sequences_is_the_sum_over_windows(sequence, kernel, stride, dilation, padding, groups, seed):
    x = np.random.default_rng(seed).normal(size=(*sequence, 2 * groups))
    layer = Conv1d(filters=3 * groups, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    extent = (kernel - 1) * dilation + 1
    if padding == "same":
        total = max(0, (-(-sequence[1] // stride) - 1) * stride + extent - sequence[1])
        around = total // 2, total - total // 2
    else:
        around = (0, 0) if padding == "valid" else (padding, padding)
    padded = np.pad(x, ((0, 0), around, (0, 0)))
    if extent > padded.shape[1]:
        with pytest.raises(
            GraphError, match=rf"conv1d has windows of {extent} in length.*, but the sequence has {sequence[1]}"
        ):
            passes(layer, x, normal(seed))
        return
    output, x_gradient, parameters, gradients, upstream = passes(layer, x, normal(seed))
    weight, bias = parameters["y.weight"], parameters["y.bias"]
    assert weight.shape == (kernel, 2, 3 * groups)
    expected = np.zeros((len(x), (padded.shape[1] - extent) // stride + 1, 3 * groups)) + bias
    padded_gradient, weight_gradient = np.zeros_like(padded), np.zeros_like(weight)
    for window, i, f, c in product(*map(range, (expected.shape[1], kernel, 3 * groups, 2))):
        place = (slice(None), window * stride + i * dilation, f // 3 * 2 + c)
        expected[:, window, f] += padded[place] * weight[i, c, f]
        padded_gradient[place] += upstream[:, window, f] * weight[i, c, f]
        weight_gradient[i, c, f] += padded[place] @ upstream[:, window, f]
    np.testing.assert_allclose(output, expected, rtol=1e-10, atol=1e-10, err_msg=f"seed {seed}")
    inner = slice(around[0], around[0] + sequence[1])
    np.testing.assert_allclose(x_gradient, padded_gradient[:, inner], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients["y.weight"], weight_gradient, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients["y.bias"], upstream.sum(axis=(0, 1)), rtol=1e-10, atol=1e-10)


@FEW
@given(
    sequence=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3)),
    kernel=st.integers(1, 4),
    stride=st.one_of(st.none(), st.integers(1, 4)),
    padding=st.integers(0, 3),
    ceil=st.booleans(),
    tied=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_pooling_of_sequences_reduces_windows(sequence, kernel, stride, padding, ceil, tied, seed):
    random = np.random.default_rng(seed)
    x = random.integers(0, 2, sequence).astype(float) if tied else random.normal(size=sequence)
    options = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil}
    if not padding < kernel <= sequence[1] + 2 * padding:
        for kind in (MaxPool1d, AveragePool1d):
            with pytest.raises(
                GraphError, match=rf"{kind.type}(.padding must be smaller| has windows of {kernel} in length)"
            ):
                passes(kind(**options), x, normal(seed))
        return
    windows = pooled_windows(sequence[1], kernel, stride or kernel, padding, ceil)
    largest, largest_gradient, *_, upstream = passes(MaxPool1d(**options), x, normal(seed))
    mean, mean_gradient, *_ = passes(AveragePool1d(**options), x, normal(seed))
    assert largest.shape == mean.shape == (sequence[0], len(windows), sequence[2])
    expected_of_largest, expected_of_mean = np.zeros_like(x), np.zeros_like(x)
    for number, (start, stop) in enumerate(windows):
        inside = slice(max(start, 0), stop)
        np.testing.assert_allclose(mean[:, number], x[:, inside].sum(axis=1) / (stop - start), rtol=1e-12, atol=1e-12)
        expected_of_mean[:, inside] += upstream[:, number, None] / (stop - start)
        for n, channel in product(range(sequence[0]), range(sequence[2])):
            first = max(start, 0) + x[n, inside, channel].argmax()
            assert largest[n, number, channel] == x[n, first, channel]
            expected_of_largest[n, first, channel] += upstream[n, number, channel]
    np.testing.assert_allclose(largest_gradient, expected_of_largest, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mean_gradient, expected_of_mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(filters=4, kernel=3), (5, 6), r"conv2d needs an input of shape \(batch, height, width, channels\)"),
        (Conv2d(filters=4, kernel=3), (2, 5, 3), "windows of 3 in height, but the image has 2"),
        (
            Conv2d(filters=4, kernel=3, dilation=4),
            (8, 9, 3),
            "windows of 9 in height, 3 with the dilation 4, but the im",
        ),
        (Conv2d(filters=4, kernel=5, padding=1), (5, 2, 3), "windows of 5 in width, .* has 2, 4 with the padding"),
        (
            Conv2d(filters=4, kernel=1, groups=2),
            (5, 5, 3),
            "conv2d.groups must divide the number of channels, 3, but is 2",
        ),
        (Conv2d(filters=3, kernel=1, groups=2), (5, 5, 4), "conv2d.groups must divide the number of filters, 3"),
        (Conv2d(filters=3, kernel=(1, 2, 3)), (5, 5, 4), "conv2d.kernel must be one number, or one for the height"),
        (
            Conv1d(filters=4, kernel=3),
            (5, 6, 2),
            r"conv1d needs an input of shape \(batch, length, channels\), not \(1,",
        ),
        (Conv1d(filters=4, kernel=1, groups=2), (5, 3), "conv1d.groups must divide the number of channels, 3"),
        (
            Conv2dTranspose(filters=4, kernel=3),
            (5, 6),
            r"conv2d_transpose needs an input of shape \(batch, height, width,",
        ),
        (
            Conv2dTranspose(filters=4, kernel=1, groups=2),
            (5, 5, 3),
            "conv2d_transpose.groups must divide the number of channels, 3",
        ),
        (
            Conv2dTranspose(filters=3, kernel=1, groups=2),
            (5, 5, 4),
            "conv2d_transpose.groups must divide the number of filters, 3",
        ),
        (Conv2dTranspose(filters=3, kernel=(1, 2, 3)), (5, 5, 4), "conv2d_transpose.kernel must be one number"),
        (MaxPool2d(kernel=2, padding=2), (5, 5, 4), "padding must be smaller than a window of 2, not 2"),
    ],
)
def test_shapes_that_do_not_fit_raise(layer, shape, message):
    with pytest.raises(GraphError, match=message):
        passes(layer, np.zeros((1, *shape)), normal(0))


def test_fans_count_the_window():
    assert (fan_in((3, 3, 16, 32)), fan_out((3, 3, 16, 32))) == (144, 288)
    assert (fan_in((5, 7)), fan_out((5, 7))) == (5, 7)
    assert (fan_in((7,)), fan_out((7,))) == (1, 7)


def test_multiply_adds_count_each_window():
    assert Conv2d(filters=20, kernel=5).multiply_adds((64, 28, 28, 1)) == 64 * 24 * 24 * 25 * 20
    assert Conv1d(filters=21, kernel=5, groups=3).multiply_adds((64, 28, 9)) == 64 * 24 * 5 * 3 * 21
    assert Conv2dTranspose(filters=20, kernel=5, stride=2).multiply_adds((64, 8, 9, 3)) == 64 * 8 * 9 * 25 * 3 * 20
    assert MaxPool2d(kernel=2).multiply_adds((64, 28, 28, 1)) == 0
