"""What each worker owns: the shards that it computes and the parameters that it updates."""

from __future__ import annotations

from workers.data.splitting import split_evenly
from workers.exchange.tree import complete_subtrees

# Slices begin at multiples of this many parameters, and squares are summed in segments of this many. So the sums of
# squares do not depend on which worker owns which slice.
SEGMENT = 1024


class Partition:
    """The shards, parameters and segments of squares that each worker owns, by rank.

    `rows` are slices of the table of shards and `subtrees` the complete subtrees of these shards. `parameters` are
    slices of the flat vector and `squares` slices of the sums of squares of its segments. The slices of all workers
    cover everything, in order. A model with fewer segments than workers leaves the last workers' slices empty.
    """

    def __init__(self, shards: int, parameters: int, workers: int) -> None:
        owned = split_evenly(shards, workers)
        self.rows = [slice(part.start, part.stop) for part in owned]
        self.subtrees = [complete_subtrees(part, shards) for part in owned]
        segments = split_evenly(-(-parameters // SEGMENT), workers)
        self.squares = [slice(part.start, part.stop) for part in segments]
        self.parameters = [
            slice(min(part.start * SEGMENT, parameters), min(part.stop * SEGMENT, parameters)) for part in segments
        ]
