from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.jobs.series.thinning import thinned

numbers = st.lists(st.floats(), max_size=400).map(lambda values: np.array(values, np.float64))


@given(values=numbers, most=st.integers(4, 50))
def test_ends_and_extremes_are_kept(values: np.ndarray, most: int) -> None:
    kept = thinned(values, most)
    assert len(kept) <= most
    assert len(kept) == len(values) or len(values) > most
    assert kept.tolist() == sorted(set(kept.tolist()))
    if len(values) == 0:
        return
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    buckets = max(most // 4, 1) if len(values) > most else 1
    size = math.ceil(len(values) / buckets)
    for start in range(len(values) - 2 * size + 2):
        # A window of two buckets contains a whole bucket, which keeps its extremes.
        window = kept[(kept >= start) & (kept < start + 2 * size)]
        assert len(window), "a window of two buckets has points"
    for extreme in (np.fmin.reduce, np.fmax.reduce):
        assert np.array_equal(extreme(values[kept]), extreme(values), equal_nan=True)


@given(values=st.lists(st.floats(allow_nan=False), min_size=41, max_size=400).map(np.array))
def test_every_bucket_keeps_its_ends_and_its_extremes(values: np.ndarray) -> None:
    kept = set(thinned(values, 40).tolist())
    edges = np.linspace(0, len(values), 11).astype(int)
    for start, stop in pairwise(edges):
        shown = [values[index] for index in range(start, stop) if index in kept]
        assert {start, stop - 1} <= kept
        assert (min(shown), max(shown)) == (values[start:stop].min(), values[start:stop].max())
