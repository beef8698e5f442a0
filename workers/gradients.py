"""The gradient sums of one worker's shards, along the canonical tree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Graph, ParameterLayout, Plan, RandomKey, aligned_zeros
from workers.batches import Batch
from workers.lanes import Lanes
from workers.tree import Subtree, complete_subtrees, split_evenly

# Columns of the table of shards.
LOSS, CORRECT, ACTIVE = range(3)
COLUMNS = 3

Vector = NDArray[Any]
Table = NDArray[np.float64]


class _Lane:
    """What one thread needs to sum its shards: plans for their sizes, and a buffer for each open addition."""

    def __init__(
        self,
        graph: Graph,
        layout: ParameterLayout,
        parameters: Vector,
        seed: int,
        shards: range,
        cuts: Mapping[int, Sequence[range]],
        total: int,
    ) -> None:
        self._seed = seed
        self.subtrees = complete_subtrees(shards, total)
        self.sums = [aligned_zeros((layout.size,), parameters.dtype) for _ in self.subtrees]
        self._cuts = cuts
        self._scratch = [
            aligned_zeros((layout.size,), parameters.dtype) for _ in range(max(tree.depth() for tree in self.subtrees))
        ]
        self._plans = {
            size: Plan(
                graph,
                outputs=("loss", "scores"),
                wrt=("scores",),
                batch=size,
                dtype=parameters.dtype,
                layout=layout,
                parameters=parameters,
            )
            for size in sorted({len(cut[shard]) for cut in cuts.values() for shard in shards})
        }

    @np.errstate(over="ignore", invalid="ignore")  # the trainer looks at every step's loss
    def compute(self, batch: Batch, table: Table) -> None:
        """Sum the gradients of the lane's shards into `sums`, and fill in their rows of the table."""
        for subtree, total in zip(self.subtrees, self.sums, strict=True):
            self._sum(subtree, total, batch, table)

    def _sum(self, subtree: Subtree, total: Vector, batch: Batch, table: Table) -> None:
        if subtree.is_leaf:
            np.copyto(total, self._shard(subtree.start, batch, table))
            return
        left, right = subtree.children()
        self._sum(left, total, batch, table)
        if right.is_leaf:
            np.add(total, self._shard(right.start, batch, table), out=total)
        else:
            scratch = self._scratch[right.depth()]
            self._sum(right, scratch, batch, table)
            np.add(total, scratch, out=total)

    def _shard(self, shard: int, batch: Batch, table: Table) -> Vector:
        """Gradient of one shard's loss sum, valid until the lane's next shard."""
        cut = self._cuts[len(batch.rows)][shard]
        plan = self._plans[len(cut)]
        batch.data.load(batch.rows[cut.start : cut.stop], plan)
        plan.forward(RandomKey(self._seed, batch.epoch, batch.step, shard))
        plan.backward({"loss": 1.0})  # the sum over samples: each counts once
        table[shard, LOSS] = plan.value("loss").sum(dtype=np.float64)
        table[shard, CORRECT] = np.count_nonzero(plan.value("scores").argmax(axis=1) == plan.inputs["labels"])
        table[shard, ACTIVE] = np.count_nonzero(plan.gradient("scores").any(axis=1))
        return plan.gradients


class ShardGradients:
    """Gradient sums over the shards that a worker owns.

    `subtrees` are the complete subtrees of the canonical tree inside its range, `sums` their gradients, in the same
    order, overwritten by every `compute`.
    """

    def __init__(
        self,
        graph: Graph,
        layout: ParameterLayout,
        parameters: Vector,
        *,
        seed: int,
        owned: range,
        shards: int,
        batch_sizes: Collection[int],
        threads: int,
    ) -> None:
        cuts = {size: split_evenly(size, shards) for size in batch_sizes}
        self._threads = Lanes(owned, threads)
        self._lanes = [_Lane(graph, layout, parameters, seed, part, cuts, shards) for part in self._threads.shards]
        self.subtrees = complete_subtrees(owned, shards)
        buffers = {
            subtree: total for lane in self._lanes for subtree, total in zip(lane.subtrees, lane.sums, strict=True)
        }
        self._additions: list[tuple[Vector, Vector]] = []
        self.sums = [self._join(subtree, buffers) for subtree in self.subtrees]

    def _join(self, subtree: Subtree, buffers: dict[Subtree, Vector]) -> Vector:
        """Note the additions that make a subtree's sum out of the lanes' sums; give the buffer it ends up in."""
        if subtree not in buffers:
            into, source = (self._join(child, buffers) for child in subtree.children())
            self._additions.append((into, source))
            return into
        return buffers[subtree]

    def compute(self, batch: Batch, table: Table) -> None:
        """Compute the shards' gradients on a batch of one of the sizes; fill in the owned rows of the table.

        The table (shards, 3) holds each shard's loss sum, its correct samples, and its samples whose loss gradient is
        not zero.
        """
        self._threads.run(lambda lane: lane.compute(batch, table), self._lanes)
        for into, source in self._additions:
            np.add(into, source, out=into)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()
