"""The gradient sums of one worker's shards, along the canonical tree."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from core import Plan, Program, RandomKey, aligned_zeros
from core.arrays import BLOCK
from workers.data.rows import Batch
from workers.data.splitting import split_evenly
from workers.exchange.tree import Subtree, complete_subtrees
from workers.exchange.vectors import ACTIVE, LOSS, Addition, Table, Vector
from workers.job.computation import Computation
from workers.machine.arenas import Arena, Arenas
from workers.machine.device import Mirror
from workers.machine.threads import Threads

# Multiplications of a forward pass that a thread should have at least. With less, the kernels are so short that threads
# wait for the interpreter's lock. Measured on two cores, batches of 128: 784-10 takes 200 us on one thread and 340 on
# two, 784-64-10 520 and 550, 784-128-10 (6.5 million) 810 and 730, 784-256-10 1,480 and 1,180.
SMALLEST_SHARE = 5_000_000


class _Lane:
    """The shards that one thread sums: a buffer for each open addition, and plans that write into the buffers.

    `sums` are the buffers of the lane's subtrees. `cuts` are the shards' places in a batch, by the batch's size, and
    `programs` what a shard computes, by its number of rows. `figures` are the rows of the table, by shard. All plans
    lie in the `arena`.
    """

    def __init__(
        self,
        computation: Computation,
        parameters: Vector,
        *,
        programs: Mapping[int, Program],
        cuts: Mapping[int, Sequence[range]],
        sums: Mapping[Subtree, Vector],
        figures: Mapping[int, Table],
        arena: Arena,
    ) -> None:
        device = arena.device
        self._seed, self._cuts, self._xp = computation.seed, cuts, device.xp
        self._losses = computation.training_losses
        self._indices, self._tallies = computation.indices, computation.training_tallies
        # The right operands by their depth: one is added before another of its depth is begun.
        scratch = [
            aligned_zeros((computation.layout.size,), parameters.dtype, device.xp)
            for _ in range(max(subtree.depth() for subtree in sums))
        ]
        # The inputs of all plans for a number of rows, which lie in the same place.
        self._inputs: dict[int, Mirror] = {}
        # Each shard, its plans by number of rows, its row of the figures, and the additions that follow it.
        self._shards: list[tuple[int, dict[int, Plan], Table, list[Addition]]] = []
        for subtree, total in sums.items():
            plans: dict[int, dict[int, Plan]] = {}
            for shard, target, additions in _in_order(subtree, total, scratch):
                plans_into = plans.setdefault(id(target), {})
                for rows in {len(cut[shard]) for cut in cuts.values()} - plans_into.keys():
                    plan = plans_into[rows] = Plan(
                        programs[rows],
                        memory=arena.memory,
                        layout=computation.layout,
                        parameters=parameters,
                        gradients=target,
                        xp=device.xp,
                    )
                    if rows not in self._inputs:
                        self._inputs[rows] = device.rows(plan)
                self._shards.append((shard, plans_into, figures[shard], additions))

    def compute(self, batch: Batch) -> None:
        """Sum the gradients of the lane's subtrees, and write the figures of its shards. Raises InvalidIndexError."""
        xp, cuts = self._xp, self._cuts[len(batch.rows)]
        for shard, plans, figures, additions in self._shards:
            cut = cuts[shard]
            plan, inputs = plans[len(cut)], self._inputs[len(cut)]
            batch.data.load_augmented(batch, cut, inputs)
            plan.forward(RandomKey(self._seed, batch.epoch, batch.step, shard))
            rows = batch.rows[cut.start : cut.stop]
            self._indices.check(plan, rows)
            plan.backward(self._losses)  # the sum over samples: each counts once
            figures[:] = 0
            figures[LOSS] = plan.value("loss").sum(dtype=np.float64)
            figures[ACTIVE] = xp.count_nonzero(plan.gradient("scores").any(axis=1))
            self._tallies.add(xp, *batch.data.in_own_units(xp, plan.value("scores"), rows, inputs), figures)
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

    `sums` receive the sums over the complete subtrees of the `owned` shards. `compute` leaves each in parts, one for
    each lane, and `additions` are what is left to do. `table` (owned shards, columns) gets each shard's sum of losses,
    its samples whose loss gradient is not zero, and the tallies of the metrics.
    """

    def __init__(
        self,
        computation: Computation,
        owned: range,
        *,
        parameters: Vector,
        sums: Sequence[Vector],
        table: Table,
        threads: Threads,
        arenas: Arenas,
    ) -> None:
        device = arenas.device
        shards, size = computation.shards, computation.layout.size
        # The bits do not depend on which lane computes a shard.
        work = computation.graph.multiply_adds(max(computation.batch_sizes) * len(owned) // shards)
        lanes = min(threads.count if device.threaded else 1, len(owned), max(1, work // SMALLEST_SHARE))
        self._threads = threads
        self._parameters, self._results = device.mirror([parameters]), device.mirror([table, *sums])
        figures, *totals = self._results.device
        cuts = {rows: split_evenly(rows, shards) for rows in computation.batch_sizes}
        rows_of_shards = {len(cut[shard]) for cut in cuts.values() for shard in owned}
        programs = {rows: computation.training_program(rows) for rows in rows_of_shards}
        parts = [complete_subtrees(owned[part.start : part.stop], shards) for part in split_evenly(len(owned), lanes)]
        self.additions: list[Addition] = []
        buffers: dict[Subtree, Vector] = {}
        for subtree, total in zip(complete_subtrees(owned, shards), totals, strict=True):
            found, additions = _divide(subtree, total, {part for of_lane in parts for part in of_lane})
            buffers |= found
            self.additions += additions
        # A thread's part of every addition.
        self._joins = [
            [(into[part.start : part.stop], source[part.start : part.stop]) for into, source in self.additions]
            for part in split_evenly(size, min(threads.count, -(-size // BLOCK)))
        ]
        self._lanes = [
            _Lane(
                computation,
                self._parameters.device[0],
                programs=programs,
                cuts=cuts,
                sums={part: buffers[part] for part in of_lane},
                figures={shard: figures[shard - owned.start] for shard in owned},
                arena=arenas.of(thread, max(program.nbytes for program in programs.values())),
            )
            for thread, of_lane in enumerate(parts)
        ]

    def compute(self, batch: Batch) -> None:
        """Compute the shards' gradients on a batch of one of the sizes, with the parameters as they are.

        Raises InvalidIndexError if a row has a number that is read as an index and is none.
        """
        self._parameters.upload()
        self._threads.run(lambda lane: lane.compute(batch), self._lanes)
        self._results.download()

    def join(self) -> None:
        """Make the additions that are left, so that `sums` are complete."""
        self._threads.run(_add_up, self._joins)


def _divide(
    subtree: Subtree, total: Vector, parts: Collection[Subtree]
) -> tuple[dict[Subtree, Vector], list[Addition]]:
    """Buffers for the parts of a sum, the first of which is `total`, and the additions that make the sum of them."""
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
