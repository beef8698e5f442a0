"""The vectors that workers tell each other about, and where they lie.

What all workers have alike, such as the parameters, workers that share memory have once: each changes only what it
owns of it. And a worker reads a sharing peer's gradient sums where they are.

This is safe in a step's protocol. A worker computes gradients into its sums, and its shards' rows of the table, once it
has heard from every peer that it is done with the step before; it changes its slice of the parameters, the state and
the squares, and its slice of any gradient sum, once it has heard from every peer that its gradients are there, and so
that it is done with reading, too. What a worker that does not share sends to several that do, each writes down: the
same bytes, before any of them tells anybody that it is done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Optimizer, ParameterLayout, aligned_zeros
from workers.exchange.partition import Partition
from workers.exchange.shared_memory import Declaration
from workers.exchange.sharing import Sharing
from workers.machine.device import HOST, Device

# Columns of the table of shards.
LOSS, CORRECT, ACTIVE = range(3)
COLUMNS = 3

Vector = NDArray[Any]
Table = NDArray[np.float64]

# What is added to, and what is added.
Addition = tuple[Vector, Vector]


class Vectors:
    """The vectors of the worker `rank`.

    `parameters`, `state` by slot, `squares` by block and the `table` of shards are everybody's; `sums` are the gradient
    sums of this worker's subtrees, and `operands` those of each worker's, by rank, on this worker's slice.
    """

    def __init__(
        self,
        rank: int,
        partition: Partition,
        layout: ParameterLayout,
        optimizer: Optimizer,
        initial: Vector,
        sharing: Sharing,
        device: Device = HOST,
    ) -> None:
        mine, dtype = partition.parameters[rank], initial.dtype
        whole: Declaration = ((layout.size,), dtype)
        alike: list[Declaration] = [
            ((partition.rows[-1].stop, COLUMNS), np.float64),
            ((partition.squares[-1].stop,), dtype),
            *[whole] * (1 + len(optimizer.slots)),
        ]

        def arrays(owner: int) -> tuple[list[Vector], list[Vector]]:
            """What a worker's memory has for all, if anything, and its own sums."""
            declared = alike if sharing.home(owner) == owner else []
            # A device copies what is its worker's own, and what all have alike.
            copied_by = device if owner in {home, rank} else HOST
            found = sharing.arrays(owner, [*declared, *[whole] * len(partition.subtrees[owner])], copied_by)
            return found[: len(declared)], found[len(declared) :]

        home = sharing.home(rank)
        sharers = {owner for owner in range(len(partition.rows)) if sharing.reads(rank, owner)}
        laid = {owner: arrays(owner) for owner in sharers}
        self.table, self.squares, self.parameters, *state = laid[home][0]
        self.state = dict(zip(optimizer.slots, state, strict=True))
        # Sharing workers all write the same.
        np.copyto(self.parameters, initial)
        self.sums = laid[rank][1]
        self.operands = [
            [total[mine] for total in laid[owner][1]]
            if owner in sharers
            else [aligned_zeros((mine.stop - mine.start,), dtype) for _ in subtrees]
            for owner, subtrees in enumerate(partition.subtrees)
        ]
