"""What a job computes, as the engine's objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
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
    with_loss,
)
from workers.data.splitting import batch_sizes
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

    def training_program(self, rows: int, dtype: npt.DTypeLike = np.float32) -> Program:
        """Compile forward and backward for a batch of `rows`. Workers bind it; the memory estimate asks its size."""
        outputs = ("loss", "scores", *self.indices.outputs)
        return Program.compile(self.graph, outputs, batch=rows, dtype=dtype, wrt=("scores",))

    def initial_parameters(self) -> npt.NDArray[Any]:
        """A new flat vector, float32, of the parameters that the seed draws."""
        return initialize(self.layout, self.seed)


def _outputs(graph: Graph) -> int:
    return int(graph.shapes()["scores"][1])
