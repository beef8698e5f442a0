"""The loop that Numba compiles for maximum pooling against NumPy's form."""

from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import MaxPool2d
from core.layers.convolution import max_pool2d, pooling

FORMS = ["interpreted"] + ["compiled"] * (find_spec("numba") is not None)


def gradient_bits(layer, x, upstream, form):
    output = np.empty(layer.infer(x.shape), x.dtype)
    workspace = {name: np.full(shape, np.nan, x.dtype) for name, (shape, _) in layer.workspace(x.shape).items()}
    layer.forward(np, [x], output, workspace)
    gradient, calls = np.full_like(x, np.nan), []

    def counted(loop):
        calls.append(loop)
        return loop if form == "interpreted" else max_pool2d_compile(loop)

    max_pool2d_compile = max_pool2d.compile_loop
    replaced = (lambda _: None) if form == "numpy" else counted
    with patch.object(max_pool2d, "compile_loop", replaced), patch.object(max_pool2d, "SHORTEST", 0):
        layer.backward(np, upstream, [x], output, workspace, [gradient])
    assert bool(calls) == (form != "numpy"), "the loop was not used"
    return gradient.tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=30, deadline=None)
@given(
    image=st.tuples(st.integers(0, 3), st.integers(3, 7), st.integers(3, 7), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 4),
    ceil=st.booleans(),
    levels=st.sampled_from([2, 1000]),
    block=st.sampled_from([1, 60, 10**6]),
    seed=st.integers(0, 2**32),
)
def test_loop_is_bitwise_equal_to_numpy(form, dtype, image, kernel, stride, ceil, levels, block, seed):
    random = np.random.default_rng(seed)
    x = (random.integers(0, levels, image) - levels // 2).astype(dtype)
    layer = MaxPool2d(kernel=kernel, stride=stride, padding=kernel // 2, ceil=ceil)
    upstream = random.normal(size=layer.infer(x.shape)).astype(dtype)
    # Numbers that are not finite spread to the same entries.
    upstream[random.random(upstream.shape) < 0.02] = np.inf
    x[random.random(x.shape) < 0.02] = np.nan
    with patch.object(pooling, "BLOCK", block), np.errstate(invalid="ignore"):
        one, other = (gradient_bits(layer, x, upstream, each) for each in (form, "numpy"))
    assert one == other, f"seed {seed}"
