"""Losses and accuracy on the validation rows: each worker evaluates its shards, and all get the same means."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import cast

import numpy as np

from core import Graph, Loss, ParameterLayout, Plan, Program, registered
from workers.data.rows import Batches
from workers.data.splitting import Rows, split_evenly
from workers.exchange.control import TableGather
from workers.exchange.vectors import Vector
from workers.job.computation import Computation
from workers.machine.device import Mirror
from workers.training.runtime import Runtime

# Rows of one forward pass; the last one of a shard may have fewer.
MAX_ROWS = 1024

# Both are computed for every classifier, with their default settings, so that models trained with different losses can
# be compared.
COMPARED_LOSSES = ("hinge", "softmax")


class DistributedEvaluation:
    """Evaluates the current parameters of a classifier, with its own loss and others, on the validation rows."""

    def __init__(self, computation: Computation, runtime: Runtime, parameters: Vector, rows: Rows) -> None:
        self._rows, self._threads, self._device = rows, runtime.threads, runtime.device
        membership, shards, layout = runtime.exchange.membership, computation.shards, computation.layout
        owned = split_evenly(shards, membership.workers)
        self._mine = owned[membership.rank]
        self._cuts = split_evenly(len(rows), shards)
        graph = deepcopy(computation.graph)
        self._outputs = _add_compared_losses(graph)
        self._table = np.zeros((shards, len(self._outputs) + 1))
        self._parameters = self._device.mirror([parameters])
        self._results = self._device.mirror([self._table[self._mine.start : self._mine.stop]])
        parts = split_evenly(len(self._mine), min(runtime.lanes, len(self._mine)))
        lane_shards = [self._mine[part.start : part.stop] for part in parts]
        self._indices = computation.indices
        outputs = (*self._outputs.values(), "scores", *self._indices.outputs)
        programs = {
            size: Program.compile(graph, outputs, batch=size, dtype=parameters.dtype, backward=False)
            for size in self._sizes(self._mine)
        }
        self._lanes = [(lane, self._plans(programs, layout, lane)) for lane in lane_shards]
        self._gather = TableGather(runtime.exchange, self._table, [slice(part.start, part.stop) for part in owned])

    def _plans(
        self, programs: Mapping[int, Program], layout: ParameterLayout, shards: range
    ) -> dict[int, tuple[Plan, Mirror]]:
        (parameters,) = self._parameters.device
        plans = {
            size: Plan(programs[size], layout=layout, parameters=parameters, xp=self._device.xp)
            for size in sorted(self._sizes(shards))
        }
        return {size: (plan, self._device.rows(plan)) for size, plan in plans.items()}

    def _sizes(self, shards: range) -> set[int]:
        return {len(rows_of_pass) for shard in shards for rows_of_pass in _passes(self._cuts[shard])}

    def run(self, step: int, batches: Batches) -> dict[str, float]:
        """Compute means over the validation rows, by name of the metric; empty where there are no such rows.

        All workers call this after the same step. Raises InvalidIndexError.
        """
        if not len(self._rows):
            return {}
        self._parameters.upload()
        self._threads.run(lambda lane: self._evaluate(batches, *lane), self._lanes)
        self._results.download()
        self._gather.run(step)
        means = (self._table.sum(axis=0) / len(self._rows)).tolist()
        return dict(zip((*self._outputs, "val/accuracy"), means, strict=True))

    @np.errstate(over="ignore", invalid="ignore")  # the trainer checks every step's loss
    def _evaluate(self, batches: Batches, shards: range, plans: dict[int, tuple[Plan, Mirror]]) -> None:
        xp, (results,) = self._device.xp, self._results.device
        for shard in shards:
            sums = results[shard - self._mine.start]
            sums[:] = 0
            for rows_of_pass in _passes(self._cuts[shard]):
                plan, inputs = plans[len(rows_of_pass)]
                rows = self._rows[rows_of_pass.start : rows_of_pass.stop]
                batches.load(rows, inputs)
                plan.forward()
                self._indices.check(plan, rows)
                for column, output in enumerate(self._outputs.values()):
                    sums[column] += plan.value(output).sum(dtype=np.float64)
                sums[-1] += xp.count_nonzero(plan.value("scores").argmax(axis=1) == plan.inputs["labels"])


def _add_compared_losses(graph: Graph) -> dict[str, str]:
    """Add the losses that are computed for every classifier; returns the node of each metric, which is its mean."""
    outputs = {"val/loss": "loss"}
    for name in COMPARED_LOSSES:
        loss = cast("Loss", registered("loss")[name]())
        # No layer has a name with a slash.
        outputs[f"val/{name}"] = graph.add(f"val/{name}", loss, "scores", "labels")
    return outputs


def _passes(rows: range) -> list[range]:
    """Cut a shard's rows into forward passes."""
    return [rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS)]
