"""Reading a mapped file before its rows are visited."""

from __future__ import annotations

import mmap
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data import read_ahead
from workers.data.read_ahead import ReadAhead, advise, parts
from workers.data.splitting import Chunks, epoch_order

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 1024
CHUNKS = Chunks(rows=64, window=4)


@given(rows=st.sets(st.integers(0, 300), min_size=1), near=st.integers(0, 5), seed=st.integers(0, 9))
def test_parts_hold_every_row_and_no_wide_gap(rows: set[int], near: int, seed: int) -> None:
    found = parts(np.random.default_rng(seed).permutation(sorted(rows)), near)
    for row in rows:
        assert sum(first <= row <= last for first, last in found) == 1
    for first, last in found:
        inside = sorted(row for row in rows if first <= row <= last)
        assert (inside[0], inside[-1]) == (first, last)
        assert all(after - before <= near + 1 for before, after in pairwise(inside))
    for (_, last), (first, _) in pairwise(found):
        assert first - last > near + 1


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Address and size in bytes of each read that was requested from the operating system."""
    calls = []
    monkeypatch.setattr(read_ahead, "NEAR", 0)
    monkeypatch.setattr(
        read_ahead,
        "advise",
        lambda values, advice: advice == mmap.MADV_WILLNEED and calls.append((values.ctypes.data, values.nbytes)),
    )
    return calls


@pytest.mark.parametrize("begun_at", [0, 100, 700])
def test_each_window_is_requested_once_before_it_is_visited(requested: list[tuple[int, int]], begun_at: int) -> None:
    features = np.zeros((1000, WIDTH), np.uint8)
    order = epoch_order(np.arange(1000), 1, 0, CHUNKS)
    ahead = ReadAhead(features, order, CHUNKS)
    window = CHUNKS.rows * CHUNKS.window
    times = np.zeros(1000, np.int64)
    for place in range(begun_at, 1000, 50):
        ahead.visit(place)
        while requested:
            address, size = requested.pop()
            first = (address - features.ctypes.data) // WIDTH
            times[first : first + size // WIDTH] += 1
        # Exactly the rows up to the end of the next window were requested, each once.
        there = order[begun_at // window * window : (place // window + 2) * window]
        np.testing.assert_array_equal(np.flatnonzero(times), np.sort(there))
        assert times.max() == 1


def test_reading_ahead_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "features"
    values: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (2000, WIDTH), np.uint8)
    values.tofile(path)
    mapped = np.memmap(path, np.uint8, "r", shape=values.shape).view(np.ndarray)
    order = epoch_order(np.arange(len(values)), 3, 0, CHUNKS)
    ahead = ReadAhead(mapped, order, CHUNKS)
    for place in range(0, len(values), 100):
        ahead.visit(place)
        rows = order[place : place + 100]
        np.testing.assert_array_equal(mapped[rows], values[rows])
    advise(mapped, mmap.MADV_NORMAL)
    # Unaligned memory that does not belong to a file is allowed.
    advise(values[1:].reshape(-1)[3:10], mmap.MADV_WILLNEED)
