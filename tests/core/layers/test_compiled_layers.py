"""The loops that Numba compiles for layers of images against NumPy's form, bit by bit."""

from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import BatchNorm, MaxPool2d
from core.kernels import fused
from core.layers.convolution import pooling
from core.layers.normalization import batch_norm

FORMS = ["interpreted"] + ["compiled"] * (find_spec("numba") is not None)
every_form = pytest.mark.parametrize("form", FORMS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def bits(layer, inputs, upstream, form):
    """Return output and gradients as bytes, and the loops that were used."""
    x, dtype = inputs[0], inputs[0].dtype
    output = np.empty(layer.infer(x.shape), dtype)
    workspace = {name: np.full(shape, np.nan, dtype) for name, (shape, _) in layer.workspace(x.shape).items()}
    gradients, used, compile_loop = [np.full_like(each, np.nan) for each in inputs], set(), fused.compile_loop

    def counted(loop):
        if form == "numpy":
            return None
        used.add(loop)
        return loop if form == "interpreted" else compile_loop(loop)

    with (
        patch.object(fused, "compile_loop", counted),
        patch.object(fused, "SHORTEST", 0),
        patch.object(batch_norm, "SHORTEST", 0),
        np.errstate(invalid="ignore"),
    ):
        layer.forward(np, inputs, output, workspace)
        layer.backward(np, upstream, inputs, output, workspace, gradients)
    return [each.tobytes() for each in (output, *gradients)], used


@every_form
@every_dtype
@settings(max_examples=30, deadline=None)
@given(
    image=st.tuples(st.integers(0, 3), st.integers(3, 7), st.integers(3, 7), st.integers(1, 3)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 4), st.booleans()),
    levels=st.sampled_from([2, 1000]),
    block=st.sampled_from([1, 60, 10**6]),
    seed=st.integers(0, 2**32),
)
def test_maximum(form, dtype, image, window, levels, block, seed):
    random, (kernel, stride, ceil) = np.random.default_rng(seed), window
    x = (random.integers(0, levels, image) - levels // 2).astype(dtype)
    layer = MaxPool2d(kernel=kernel, stride=stride, padding=kernel // 2, ceil=ceil)
    upstream = random.normal(size=layer.infer(x.shape)).astype(dtype)
    # Numbers that are not finite spread to the same entries.
    upstream[random.random(upstream.shape) < 0.02] = np.inf
    x[random.random(x.shape) < 0.02] = np.nan
    with patch.object(pooling, "BLOCK", block):
        (one, used), (other, _) = (bits(layer, [x], upstream, each) for each in (form, "numpy"))
    assert one == other, f"seed {seed}"
    assert len(used) == 1


@every_form
@every_dtype
@settings(max_examples=20, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(0, 9), st.integers(1, 5)),
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
    ),
    block=st.sampled_from([1, 40, 10**6]),
    seed=st.integers(0, 2**32),
)
def test_batch_normalization(form, dtype, shape, block, seed):
    random = np.random.default_rng(seed)
    shapes = [shape, *(each.shape for each in BatchNorm().parameters(shape))]
    inputs = [(random.normal(size=each) * 10.0 ** random.integers(-3, 3, each)).astype(dtype) for each in shapes]
    upstream = random.normal(size=shape).astype(dtype)
    with patch.object(batch_norm, "BLOCK", block):
        (one, used), (other, _) = (bits(BatchNorm(), inputs, upstream, each) for each in (form, "numpy"))
    assert one == other, f"seed {seed}"
    assert len(used) == 3
