"""What a job computes, as the engine's objects."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from core import (
    Clipping,
    Graph,
    IndexCheck,
    Optimizer,
    ParameterLayout,
    Penalty,
    Program,
    Task,
    initialize,
    loss_weights,
    with_loss,
)
from core.plan.passes import rows_per_pass
from workers.data.splitting import batch_sizes, split_evenly
from workers.exchange.vectors import FIRST_COLUMNS
from workers.job.metrics import JobMetrics
from workers.job.tallies import Tallies
from workers.job.task import task_of

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.job.spec import JobSpec


@dataclass(frozen=True)
class Computation:
    """What a job computes, on any number of workers and threads. Its data are not included.

    `graph` is the network with its loss for the task, and `batch_sizes` the numbers of rows that its batches have.
    """

    graph: Graph
    task: Task
    layout: ParameterLayout
    optimizer: Optimizer
    penalty: Penalty | None
    clipping: Clipping | None
    seed: int
    shards: int
    batch_sizes: frozenset[int]

    @classmethod
    def of(cls, spec: JobSpec, dataset: DatasetInfo, train_rows: int) -> Computation:
        """Build the computation of a resolved spec. ValueError if the spec is not resolved."""
        training = spec.training
        if training.shards is None:
            raise ValueError("training.shards is not set: the spec must be resolved before it is trained")
        graph = spec.model.graph()
        task = task_of(spec.loss, dataset, _outputs(graph))
        return cls(
            with_loss(graph, spec.loss, task),
            task,
            ParameterLayout(graph.parameters()),
            spec.optimizer,
            spec.regularization.penalty,
            training.clipping,
            training.seed,
            training.shards,
            batch_sizes(train_rows, training.batch_size),
        )

    @cached_property
    def indices(self) -> IndexCheck:
        """The check of what the network's layers read as indices."""
        return IndexCheck(self.graph)

    @property
    def metrics(self) -> JobMetrics:
        """The metrics that the job computes."""
        return JobMetrics(self.task, _outputs(self.graph))

    @property
    def training_tallies(self) -> Tallies:
        """The columns of the table of shards, in training."""
        metrics = self.metrics
        return Tallies(metrics.training, metrics.outputs, FIRST_COLUMNS)

    @cached_property
    def training_losses(self) -> dict[str, float]:
        """The nodes of the losses that are minimized, and their factors: 1, and those of the heads."""
        return loss_weights(self.graph)

    @cached_property
    def validation_losses(self) -> dict[str, str]:
        """The nodes of the losses on the validation rows, by the name of the series that is their mean."""
        return {"val/loss": "loss"} | {f"val/{metric.type}": f"val/{metric.type}" for metric in self.metrics.losses}

    def training_program(self, rows: int) -> Program:
        """The forward and backward pass for a batch of `rows`. Workers bind it; the memory estimate asks its size."""
        if ("training", rows) not in self._programs:
            outputs = (*self.training_losses, "scores", *self.indices.outputs)
            self._programs["training", rows] = Program.compile(self.graph, outputs, batch=rows, wrt=("scores",))
        return self._programs["training", rows]

    def evaluation_program(self, rows: int) -> Program:
        """The forward pass of the evaluation for a batch of `rows`."""
        if ("evaluation", rows) not in self._programs:
            outputs = (*self.validation_losses.values(), "scores", *self.indices.outputs)
            self._programs["evaluation", rows] = Program.compile(
                self._evaluation_graph, outputs, batch=rows, backward=False
            )
        return self._programs["evaluation", rows]

    def passes(self, rows: range) -> list[range]:
        """Cut a shard's rows into the forward passes of the evaluation."""
        most = self._rows_per_pass
        return [rows[start : start + most] for start in range(0, len(rows), most)]

    def largest_program(self, validation_rows: int) -> Program:
        """The program that takes most memory, if the job has so many validation rows. A thread's plans share it."""
        training = {len(cut) for batch in self.batch_sizes for cut in split_evenly(batch, self.shards)}
        evaluation = {len(rows) for cut in split_evenly(validation_rows, self.shards) for rows in self.passes(cut)}
        programs = [*map(self.training_program, training), *map(self.evaluation_program, evaluation)]
        return max(programs, key=lambda program: program.nbytes)

    @cached_property
    def _rows_per_pass(self) -> int:
        return rows_per_pass(self.graph)

    @cached_property
    def _programs(self) -> dict[tuple[str, int], Program]:
        return {}

    @cached_property
    def _evaluation_graph(self) -> Graph:
        graph = deepcopy(self.graph)
        truth = graph.nodes["loss"].inputs[1]
        for metric in self.metrics.losses:
            # No layer has a name with a slash.
            graph.add(f"val/{metric.type}", metric.loss, "scores", truth)
        return graph

    def initial_parameters(self) -> npt.NDArray[Any]:
        """A new flat vector, float32, of the parameters that the seed draws."""
        return initialize(self.layout, self.seed)


def _outputs(graph: Graph) -> int:
    return int(graph.shapes()["scores"][1])
