"""Losses and metrics on the validation rows: each worker evaluates its shards, and all get the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Plan
from workers.data.rows import Batches
from workers.data.splitting import Rows, split_evenly
from workers.exchange.control import TableGather
from workers.exchange.vectors import Table, Vector
from workers.job.computation import Computation
from workers.job.tallies import Tallies
from workers.machine.arenas import Arenas
from workers.machine.device import Mirror
from workers.training.runtime import Runtime


class ShardEvaluation:
    """Evaluates parameters with the job's loss and metrics on the shards `mine` of some rows.

    `table` has the figures of all shards: the sums of the losses, by column of `losses`, and the tallies.
    """

    def __init__(self, computation: Computation, runtime: Runtime, parameters: Vector, rows: Rows, mine: range) -> None:
        self._rows, self._mine, self._threads, self._device = rows, mine, runtime.threads, runtime.device
        self._cuts = split_evenly(len(rows), computation.shards)
        metrics, self.losses = computation.metrics, computation.validation_losses
        self.tallies = Tallies(metrics.tallied, metrics.outputs, len(self.losses))
        self.table: Table = np.zeros((computation.shards, self.tallies.stop))
        self._parameters = self._device.mirror([parameters])
        self._results = self._device.mirror([self.table[mine.start : mine.stop]])
        parts = split_evenly(len(mine), min(runtime.lanes, len(mine)))
        lane_shards = [mine[part.start : part.stop] for part in parts]
        self._indices = computation.indices
        self._passes = computation.passes
        self._lanes = [
            (lane, self._plans(computation, lane, thread, runtime.arenas)) for thread, lane in enumerate(lane_shards)
        ]

    def _plans(
        self, computation: Computation, shards: range, thread: int, arenas: Arenas
    ) -> dict[int, tuple[Plan, Mirror]]:
        (parameters,) = self._parameters.device
        sizes = {len(rows_of_pass) for shard in shards for rows_of_pass in computation.passes(self._cuts[shard])}
        programs = {size: computation.evaluation_program(size) for size in sizes}
        if not programs:
            return {}
        arena = arenas.of(thread, max(program.nbytes for program in programs.values()))
        plans = {
            size: Plan(
                program, memory=arena.memory, layout=computation.layout, parameters=parameters, xp=self._device.xp
            )
            for size, program in programs.items()
        }
        return {size: (plan, self._device.rows(plan)) for size, plan in plans.items()}

    def run(self, batches: Batches, predictions: NDArray[Any] | None = None) -> None:
        """Fill in the rows of the own shards in the table.

        `predictions` (rows, outputs) receive those of the rows, in the targets' own units.
        """
        self._parameters.upload()
        self._threads.run(lambda lane: self._evaluate(batches, predictions, *lane), self._lanes)
        self._results.download()

    def values(self) -> dict[str, float]:
        """Values over all rows, by name of the series, once the table is complete."""
        combined, rows = self.tallies.combine(self.table), len(self._rows)
        losses = (combined[: self.tallies.first] / rows).tolist()
        tallied = self.tallies.values(combined, rows)
        return dict(zip(self.losses, losses, strict=True)) | {f"val/{name}": value for name, value in tallied.items()}

    def per_target(self) -> dict[str, list[float]]:
        """Values of each target over all rows, by type of the metric, once the table is complete."""
        return self.tallies.per_target(self.tallies.combine(self.table), len(self._rows))

    @np.errstate(over="ignore", invalid="ignore")  # the trainer checks every step's loss
    def _evaluate(
        self,
        batches: Batches,
        predictions: NDArray[Any] | None,
        shards: range,
        plans: dict[int, tuple[Plan, Mirror]],
    ) -> None:
        xp, (results,) = self._device.xp, self._results.device
        for shard in shards:
            figures = results[shard - self._mine.start]
            figures[:] = 0
            for rows_of_pass in self._passes(self._cuts[shard]):
                plan, inputs = plans[len(rows_of_pass)]
                place = slice(rows_of_pass.start, rows_of_pass.stop)
                rows = self._rows[place]
                batches.load(rows, inputs)
                plan.forward()
                self._indices.check(plan, rows)
                for column, output in enumerate(self.losses.values()):
                    figures[column] += plan.value(output).sum(dtype=np.float64)
                predicted, truth = batches.in_own_units(xp, plan.value("scores"), rows, inputs)
                self.tallies.add(xp, predicted, truth, figures)
                if predictions is not None:
                    predictions[place] = self._device.to_host(predicted)


class DistributedEvaluation:
    """Evaluates the current parameters on the validation rows, each worker on its shards."""

    def __init__(self, computation: Computation, runtime: Runtime, parameters: Vector, rows: Rows) -> None:
        membership = runtime.exchange.membership
        owned = split_evenly(computation.shards, membership.workers)
        self._rows = rows
        self._shards = ShardEvaluation(computation, runtime, parameters, rows, owned[membership.rank])
        slices = [slice(part.start, part.stop) for part in owned]
        self._gather = TableGather(runtime.exchange, self._shards.table, slices)

    def run(self, step: int, batches: Batches) -> dict[str, float]:
        """Compute losses and metrics over the validation rows, by name; empty where there are no such rows.

        All workers call this after the same step. Raises InvalidIndexError.
        """
        if not len(self._rows):
            return {}
        self._shards.run(batches)
        self._gather.run(step)
        return self._shards.values()
