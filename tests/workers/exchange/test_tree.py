from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data.splitting import split_evenly
from workers.exchange.tree import Subtree, additions, complete_subtrees

Vectors = list[np.ndarray[Any, np.dtype[np.float32]]]


def partitions(shards: int) -> st.SearchStrategy[list[range]]:
    """All partitions of 0..shards into contiguous, non-empty parts."""
    cuts = st.sets(st.integers(1, shards - 1)) if shards > 1 else st.just(set[int]())
    return cuts.map(lambda chosen: [range(*pair) for pair in pairwise([0, *sorted(chosen), shards])])


cut_shards = st.integers(1, 64).flatmap(lambda shards: st.tuples(st.just(shards), partitions(shards)))


def nodes(start: int, stop: int) -> dict[tuple[int, int], tuple[int, int] | None]:
    """Every node of the tree and its parent. A left child has the largest power of two below its parent's size."""
    found: dict[tuple[int, int], tuple[int, int] | None] = {(start, stop): None}
    if stop - start > 1:
        power = 1
        while 2 * power < stop - start:
            power *= 2
        for child in ((start, start + power), (start + power, stop)):
            found |= nodes(*child) | {child: (start, stop)}
    return found


def tree_sum(vectors: Vectors, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    if stop - start == 1:
        return vectors[start]
    left, right = (child for child, parent in nodes(start, stop).items() if parent == (start, stop))
    return tree_sum(vectors, *left) + tree_sum(vectors, *right)


def random_vectors(shards: int, seed: int) -> Vectors:
    """Values of many magnitudes, so that the order of additions changes the last bits."""
    random = np.random.default_rng(seed)
    return [(random.standard_normal(50) * 10.0 ** random.integers(-4, 4, 50)).astype(np.float32) for _ in range(shards)]


@given(cut_shards)
def test_complete_subtrees_cover_a_range_exactly_and_are_maximal(case: tuple[int, list[range]]) -> None:
    shards, parts = case
    parents = nodes(0, shards)
    for owned in parts:
        subtrees = [(subtree.start, subtree.stop) for subtree in complete_subtrees(owned, shards)]
        assert [shard for subtree in subtrees for shard in range(*subtree)] == list(owned)
        for subtree in subtrees:
            parent = parents[subtree]
            assert parent is None or not (owned.start <= parent[0] and parent[1] <= owned.stop)
        assert len(subtrees) <= max(1, 2 * shards.bit_length())


@given(cut_shards, st.integers(0, 2**32))
def test_every_partition_adds_up_to_the_same_bits(case: tuple[int, list[range]], seed: int) -> None:
    shards, parts = case
    vectors = random_vectors(shards, seed)
    roots = [subtree for owned in parts for subtree in complete_subtrees(owned, shards)]
    sums = [tree_sum(vectors, root.start, root.stop).copy() for root in roots]
    for into, source in additions(roots, shards):
        sums[into] += sums[source]
    assert sums[0].tobytes() == tree_sum(vectors, 0, shards).tobytes()


@pytest.mark.parametrize("shards", [4, 7, 64])
def test_a_sum_from_left_to_right_has_other_bits(shards: int) -> None:
    """Shows that the test above can fail."""
    vectors = random_vectors(shards, seed=shards)
    naive = vectors[0].copy()
    for vector in vectors[1:]:
        naive += vector
    assert naive.tobytes() != tree_sum(vectors, 0, shards).tobytes()


@given(st.integers(1, 4096).flatmap(lambda stop: st.tuples(st.integers(0, stop - 1), st.just(stop))))
def test_depth_is_the_number_of_additions_on_the_longest_path(ends: tuple[int, int]) -> None:
    def longest(subtree: Subtree) -> int:
        return 0 if subtree.is_leaf else 1 + max(longest(child) for child in subtree.children())

    assert Subtree(*ends).depth() == longest(Subtree(*ends))


@given(st.integers(0, 5000), st.integers(1, 300))
def test_split_evenly_cuts_into_parts_that_differ_by_at_most_one(count: int, parts: int) -> None:
    cuts = split_evenly(count, parts)
    assert len(cuts) == parts
    assert [item for cut in cuts for item in cut] == list(range(count))
    sizes = [len(cut) for cut in cuts]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1
