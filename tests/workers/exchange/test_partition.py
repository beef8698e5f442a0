from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.exchange.partition import SEGMENT, Partition


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 12 * SEGMENT))
def test_the_parts_cover_everything_in_order(workers: int, more: int, parameters: int) -> None:
    shards = workers + more
    partition = Partition(shards, parameters, workers)
    lengths = (shards, parameters, -(-parameters // SEGMENT))
    for slices, length in zip((partition.rows, partition.parameters, partition.squares), lengths, strict=True):
        assert len(slices) == workers
        assert [index for part in slices for index in range(part.start, part.stop)] == list(range(length))
    for rank in range(workers):
        owned, squares = partition.parameters[rank], partition.squares[rank]
        assert owned.start % SEGMENT == 0 or owned.start == owned.stop
        assert -(-owned.stop // SEGMENT) == squares.stop
        covered = [shard for tree in partition.subtrees[rank] for shard in range(tree.start, tree.stop)]
        assert covered == list(range(partition.rows[rank].start, partition.rows[rank].stop))
