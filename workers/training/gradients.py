"""The gradient sums of one worker's shards, along the canonical tree."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from core import Graph, ParameterLayout, Plan, Program, RandomKey, aligned_zeros
from core.arrays import BLOCK as ELEMENTWISE_BLOCK
from workers.data.rows import Batch
from workers.data.splitting import split_evenly
from workers.exchange.tree import Subtree, complete_subtrees
from workers.exchange.vectors import ACTIVE, CORRECT, LOSS, Addition, Table, Vector
from workers.job.program import training_program
from workers.machine.device import HOST, Device, Mirror
from workers.machine.threads import Threads

# Rows times parameters that a thread should have to itself, about its multiplications in each direction: with less,
# threads wait for the interpreter's lock between kernels that are too short. Measured on two cores, batches of 128:
# 784-10 takes 200 us on one thread and 340 on two, 784-64-10 520 and 550, 784-128-10 (6.5 million) 810 and 730,
# 784-256-10 1,480 and 1,180.
SMALLEST_SHARE = 5_000_000


class _Lane:
    """What one thread needs to sum its shards: a buffer for each open addition, and plans that write into them."""

    def __init__(
        self,
        programs: Mapping[int, Program],
        layout: ParameterLayout,
        parameters: Vector,
        seed: int,
        cuts: Mapping[int, Sequence[range]],
        sums: Mapping[Subtree, Vector],
        figures: Mapping[int, Table],
        device: Device,
    ) -> None:
        self._seed, self._cuts, self._xp = seed, cuts, device.xp
        # What is added to a sum, by its depth: a right child's sum is done with before another of its depth begins.
        scratch = [
            aligned_zeros((layout.size,), parameters.dtype, device.xp)
            for _ in range(max(subtree.depth() for subtree in sums))
        ]
        # Each shard, its plans by number of rows, its row of the figures, and the additions that follow it.
        self._shards: list[tuple[int, dict[int, tuple[Plan, Mirror]], Table, list[Addition]]] = []
        for subtree, total in sums.items():
            plans: dict[int, dict[int, tuple[Plan, Mirror]]] = {}
            for shard, target, additions in _in_order(subtree, total, scratch):
                plans_into = plans.setdefault(id(target), {})
                for rows in {len(cut[shard]) for cut in cuts.values()} - plans_into.keys():
                    plan = Plan(programs[rows], layout=layout, parameters=parameters, gradients=target, xp=device.xp)
                    plans_into[rows] = plan, device.rows(plan)
                self._shards.append((shard, plans_into, figures[shard], additions))

    def compute(self, batch: Batch) -> None:
        """Sum the gradients of the lane's subtrees, and fill in their shards' figures."""
        xp, cuts = self._xp, self._cuts[len(batch.rows)]
        for shard, plans, figures, additions in self._shards:
            cut = cuts[shard]
            plan, inputs = plans[len(cut)]
            batch.data.load_augmented(batch, cut, inputs)
            plan.forward(RandomKey(self._seed, batch.epoch, batch.step, shard))
            plan.backward({"loss": 1.0})  # the sum over samples: each counts once
            figures[LOSS] = plan.value("loss").sum(dtype=np.float64)
            figures[CORRECT] = xp.count_nonzero(plan.value("scores").argmax(axis=1) == plan.inputs["labels"])
            figures[ACTIVE] = xp.count_nonzero(plan.gradient("scores").any(axis=1))
            for into, source in additions:
                xp.add(into, source, out=into)


def _in_order(
    subtree: Subtree, total: Vector, scratch: Sequence[Vector]
) -> Iterator[tuple[int, Vector, list[Addition]]]:
    """Each shard of a subtree, the buffer for its gradient, and the additions that follow; the last makes `total`."""
    if subtree.is_leaf:
        yield subtree.start, total, []
        return
    left, right = subtree.children()
    yield from _in_order(left, total, scratch)
    *others, (shard, target, additions) = _in_order(right, scratch[right.depth()], scratch)
    yield from others
    yield shard, target, [*additions, (total, scratch[right.depth()])]


class ShardGradients:
    """Gradient sums over the shards that a worker owns.

    `sums` are where those of its complete subtrees go, `subtrees` of all `shards`. `compute` leaves each in parts, one
    for each lane; `additions`, pairs of what is added to and what is added, are what is left to do. `table` (owned
    shards, 3) gets each shard's loss sum, its correct samples, and its samples whose loss gradient is not zero.
    """

    def __init__(
        self,
        graph: Graph,
        layout: ParameterLayout,
        parameters: Vector,
        *,
        seed: int,
        subtrees: Sequence[Subtree],
        sums: Sequence[Vector],
        table: Table,
        shards: int,
        batch_sizes: Collection[int],
        threads: Threads,
        device: Device = HOST,
    ) -> None:
        owned = range(subtrees[0].start, subtrees[-1].stop)
        # Which shard is computed where changes no bit.
        work = max(batch_sizes) * len(owned) // shards * layout.size
        lanes = min(threads.count if device.threaded else 1, len(owned), max(1, work // SMALLEST_SHARE))
        self._threads = threads
        self._parameters, self._results = device.mirror([parameters]), device.mirror([table, *sums])
        figures, *totals = self._results.device
        cuts = {size: split_evenly(size, shards) for size in batch_sizes}
        rows = {len(cut[shard]) for cut in cuts.values() for shard in owned}
        programs = {each: training_program(graph, each, parameters.dtype) for each in rows}
        parts = [complete_subtrees(owned[part.start : part.stop], shards) for part in split_evenly(len(owned), lanes)]
        self.additions: list[Addition] = []
        buffers: dict[Subtree, Vector] = {}
        for subtree, total in zip(subtrees, totals, strict=True):
            found, additions = _divide(subtree, total, {part for of_lane in parts for part in of_lane})
            buffers |= found
            self.additions += additions
        # A thread's part of every addition.
        self._joins = [
            [(into[part.start : part.stop], source[part.start : part.stop]) for into, source in self.additions]
            for part in split_evenly(layout.size, min(threads.count, -(-layout.size // ELEMENTWISE_BLOCK)))
        ]
        self._lanes = [
            _Lane(
                programs,
                layout,
                self._parameters.device[0],
                seed,
                cuts,
                {part: buffers[part] for part in of_lane},
                {shard: figures[shard - owned.start] for shard in owned},
                device,
            )
            for of_lane in parts
        ]

    def compute(self, batch: Batch) -> None:
        """Compute the shards' gradients on a batch of one of the sizes, with the parameters as they are."""
        self._parameters.upload()
        self._threads.run(lambda lane: lane.compute(batch), self._lanes)
        self._results.download()

    def join(self) -> None:
        """Make the additions, so that `sums` are whole."""
        self._threads.run(_add_up, self._joins)


def _divide(
    subtree: Subtree, total: Vector, parts: Collection[Subtree]
) -> tuple[dict[Subtree, Vector], list[Addition]]:
    """A buffer for each part of a sum, the sum's own for the first, and the additions that make the sum out of them."""
    if subtree in parts:
        return {subtree: total}, []
    left, right = subtree.children()
    source = aligned_zeros(total.shape, total.dtype)
    buffers, additions = _divide(left, total, parts)
    others, more = _divide(right, source, parts)
    return buffers | others, [*additions, *more, (total, source)]


def _add_up(additions: Sequence[Addition]) -> None:
    for into, source in additions:
        np.add(into, source, out=into)
