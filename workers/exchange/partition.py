"""What each worker owns: shards that it computes, and parameters that it updates."""

from __future__ import annotations

from workers.data.splitting import split_evenly
from workers.exchange.tree import complete_subtrees

# Slices begin at multiples of this many parameters, and squares are summed in blocks of as many, so that the sums of
# squares do not depend on who owns which slice.
BLOCK = 1024


class Partition:
    """For each rank its `rows` of the table of shards, the complete `subtrees` of these, a slice of the `parameters`,
    and one of the `squares` of their blocks.

    The slices together are everything. A small model has fewer blocks than workers: the last ones' slices are empty.
    """

    def __init__(self, shards: int, parameters: int, workers: int) -> None:
        owned = split_evenly(shards, workers)
        self.rows = [slice(part.start, part.stop) for part in owned]
        self.subtrees = [complete_subtrees(part, shards) for part in owned]
        blocks = split_evenly(-(-parameters // BLOCK), workers)
        self.squares = [slice(part.start, part.stop) for part in blocks]
        self.parameters = [
            slice(min(part.start * BLOCK, parameters), min(part.stop * BLOCK, parameters)) for part in blocks
        ]
