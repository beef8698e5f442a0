"""Predictions of a trained model on the validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core import Purpose, Task, generator
from core.metrics.labels.counts import predict as predicted_labels
from workers.data.dataset import open_dataset
from workers.data.splitting import split_evenly
from workers.job.data import split_rows
from workers.job.spec import JobSpec
from workers.job.task import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.analysis.trained_model import TrainedModel
    from workers.data.dataset import DatasetInfo

MOST_ROWS = 50_000


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model, float32 (n, outputs), and the truth: labels int64 (n,), or targets float32 (n, outputs).

    `scores` are values in the targets' own units if the task is regression. `names` are those of the classes, or of
    the targets. `rows`, int64 (n,), are their numbers in the dataset. `source` names them, "validation" or "training",
    and `available` says how many of those there are: n of them, drawn by the seed. The parameters are those after
    `step`.
    """

    scores: NDArray[np.float32]
    truth: NDArray[Any]
    names: tuple[str, ...]
    rows: NDArray[np.int64]
    source: str
    available: int
    step: int
    task: Task = "classification"

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted label of each row, int64 (n,): as the job's metrics have it."""
        labels: NDArray[np.int64] = predicted_labels(np, self.scores)
        return labels

    @property
    def in_words(self) -> str:
        """Which rows and parameters these are: "360 validation rows, kept parameters of step 480"."""
        among = "" if len(self.truth) == self.available else f" of {self.available:,}"
        return f"{len(self.truth):,}{among} {self.source} rows, kept parameters of step {self.step:,}"


def predict(
    trained: TrainedModel, spec: Mapping[str, Any], dataset: DatasetInfo, names: Sequence[str] = ()
) -> Predictions:
    """Predict a job's validation rows, or its training rows if it has no validation rows, in the dataset's order.

    They are the bits that the job's metrics were computed from, as long as all the rows are taken. `names` are
    those of the targets, if there are any. Raises DatasetError if the data cannot be read.
    """
    job = JobSpec.model_validate(spec)
    features, truth = open_dataset(dataset)
    train, validation = split_rows(job, dataset, truth)
    source, rows = ("validation", validation) if len(validation) else ("training", train)
    available = len(rows)
    if available > MOST_ROWS:
        drawn = generator(job.training.seed, Purpose.SPLIT, step=1).permutation(available)[:MOST_ROWS]
        rows = rows[np.sort(drawn)]
    outputs = trained.outputs
    scores = np.empty((len(rows), outputs), np.float32)
    # A sum's bits depend on a matrix's height: rows go through the model in the blocks that evaluation takes them in.
    for shard in split_evenly(len(rows), job.training.shards or 1):
        for start in range(shard.start, shard.stop, trained.model.rows_per_pass):
            block = slice(start, min(start + trained.model.rows_per_pass, shard.stop))
            plan = trained.model.plan(block.stop - block.start)
            trained.load(features, rows[block], plan.inputs["features"])
            plan.forward()
            scores[block] = plan.value("scores")
    if trained.target_scaling is not None:
        scores = trained.target_scaling.undo(np, scores)
    task = task_of(job.loss, dataset, outputs)
    shown = dataset.classes or tuple(names)
    return Predictions(scores, truth[rows], shown, rows, source, available, trained.step, task)
