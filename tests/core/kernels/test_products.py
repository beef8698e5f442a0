"""Products that are cut into parts."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.kernels import products


@settings(max_examples=60, deadline=None)
@given(
    several=st.sampled_from([(), (3,)]),
    rows=st.integers(1, 70),
    inner=st.integers(1, 30),
    columns=st.one_of(st.integers(1, 20), st.sampled_from([32, 48, 64, 96])),
    transposed=st.booleans(),
    limit=st.sampled_from([1, 600, 3000, 10**6]),
    seed=st.integers(0, 2**32),
)
def test_parts_are_the_product(several, rows, inner, columns, transposed, limit, seed):
    random = np.random.default_rng(seed)
    left = random.normal(size=(*several, inner, rows)).swapaxes(-1, -2) if transposed else None
    left = random.normal(size=(*several, rows, inner)) if left is None else left
    right, wide = random.normal(size=(inner, columns)), np.full((*several, rows, columns + 3), np.nan)
    with patch.object(products, "IN_PLACE", limit), patch.object(products, "reads_in_place", lambda: True):
        products.multiply(np, left, right, wide[..., 1:-2])
    np.testing.assert_allclose(wide[..., 1:-2], left @ right, rtol=1e-12, atol=1e-12, err_msg=f"seed {seed}")
    assert np.isnan(wide[..., [0, -2, -1]]).all(), "wrote outside of the output"


@pytest.mark.parametrize("in_place", [True, False])
def test_only_large_products_are_cut_and_only_where_it_helps(in_place):
    calls = []

    def counted(*operands, out):
        calls.append(operands[0].shape)
        return matmul(*operands, out=out)

    matmul = np.matmul
    with patch.object(products, "reads_in_place", lambda: in_place), patch.object(np, "matmul", counted):
        for rows in (100, 1_000):
            left, right = np.ones((rows, 100), np.float32), np.ones((100, 96), np.float32)
            products.multiply(np, left, right, np.empty((rows, 96), np.float32))
    assert calls == ([(100, 100), (3, 1, 256, 100), (1, 232, 100)] if in_place else [(100, 100), (1_000, 100)])


def test_level_of_arithmetic_decides():
    features = {"SIMD Extensions": {"baseline": ["X86_V2"], "found": ["X86_V3"]}}
    for found, expected in ((["X86_V3"], False), (["X86_V3", "X86_V4"], True)):
        features["SIMD Extensions"]["found"] = found
        with patch.object(np, "show_config", lambda _: features):
            assert products.reads_in_place.__wrapped__() is expected
