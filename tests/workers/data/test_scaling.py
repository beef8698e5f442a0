from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data import scaling
from workers.data.scaling import standardization


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 5))
def test_standardization_gives_mean_0_and_deviation_1(seed: int, rows: int, width: int) -> None:
    random = np.random.default_rng(seed)
    features = (random.normal(size=(rows, width)) * 10 + 3).astype(np.float32)
    chosen = np.sort(random.permutation(rows)[: max(2, rows // 2)])
    scales = standardization(features, chosen)
    assert scales.mean.dtype == scales.deviation.dtype == np.float32
    for column in range(width):
        values = [float(features[row, column]) for row in chosen]
        center = sum(values) / len(values)
        spread = (sum((value - center) ** 2 for value in values) / len(values)) ** 0.5
        assert scales.mean[column] == pytest.approx(center, rel=1e-6, abs=1e-6)
        assert scales.deviation[column] == pytest.approx(spread, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 1e-45, 16777217.0])
def test_a_constant_feature_becomes_0(value: float) -> None:
    features = np.full((101, 1), value, np.float32)
    scales = standardization(features, np.arange(101))
    np.testing.assert_array_equal((features - scales.mean) / scales.deviation, np.zeros((101, 1)))


def test_a_feature_whose_deviation_underflows_stays_finite() -> None:
    features = np.zeros((1000, 1), np.float32)
    features[0] = 1e-45
    scales = standardization(features, np.arange(1000))
    assert np.isfinite((features - scales.mean) / scales.deviation).all()


@pytest.mark.parametrize("chunk", [1, 40, 1000, scaling.CHUNK])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_chunks_give_the_same_bits_as_all_rows_at_once(
    chunk: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "CHUNK", chunk)
    random = np.random.default_rng(0)
    features = (random.normal(size=(300, 13)) * 20 + 128).astype(dtype)
    rows = np.sort(random.permutation(300)[:250])
    scales = standardization(features, rows)
    chosen = features[rows].astype(np.float64)
    assert scales.mean.tobytes() == chosen.mean(axis=0).astype(np.float32).tobytes()
    assert scales.deviation.tobytes() == chosen.std(axis=0).astype(np.float32).tobytes()


def test_a_large_table_is_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics are computed in chunks, because the data may be larger than memory."""
    monkeypatch.setattr(scaling, "CHUNK", 10_000)
    features = np.zeros((40_000, 100), np.uint8)
    rows = np.arange(len(features))
    tracemalloc.start()
    try:
        standardization(features, rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 10_000 * 8
