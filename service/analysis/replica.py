"""A trained job for a comparison over seeds: its metrics by epoch, and its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core import Hinge, SoftmaxCrossEntropy
from service.analysis.measures import accuracy, calibration, losses, margins
from service.analysis.predictions import predict
from service.analysis.trained_model import load_trained_model
from workers.data.arrow import nulls_of, values_of
from workers.job.metrics import epoch_mean
from workers.record.history_files import read_history

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from core import Task
    from service.analysis.measures import Numbers
    from workers.data.dataset import DatasetInfo


@dataclass(frozen=True)
class Replica:
    """One of several jobs that differ only in the seed.

    `course` maps the name of a metric to its value at each epoch, NaN where it was not measured, and the names of
    metrics of steps to their means over each epoch. `scores` (rows, outputs) and `truth`, labels (rows,) or targets
    (rows, outputs), are those of the validation rows.
    """

    course: Mapping[str, Numbers]
    scores: NDArray[np.float32]
    truth: NDArray[Any]
    task: Task = "classification"

    @property
    def margins(self) -> Numbers:
        """How far the score of the true label is above the others or, with one score per label, on its side of 0."""
        if self.task == "classification":
            return margins(self.scores, self.truth)
        return (self.scores * (2.0 * self.truth.reshape(self.scores.shape) - 1)).ravel()

    @property
    def errors(self) -> Numbers:
        """The differences of predicted and true values, (rows, targets).

        Those of several targets are in standard deviations of each target, so that they can be compared.
        """
        errors: Numbers = np.subtract(self.scores, self.truth, dtype=np.float64)
        spread = self.truth.std(axis=0, dtype=np.float64)
        return errors if len(spread) == 1 else errors / np.where(spread > 0, spread, 1)

    def figures(self) -> dict[str, float]:
        """Return the final figures of a classifier by name."""
        return {
            "accuracy": accuracy(self.scores, self.truth),
            "hinge": float(losses(Hinge(), self.scores, self.truth).mean()),
            "softmax": float(losses(SoftmaxCrossEntropy(), self.scores, self.truth).mean()),
            "calibration error": calibration(self.scores, self.truth).error,
            "median margin": float(np.median(margins(self.scores, self.truth))),
            "active": float(self.course["train/active_fraction"][-1]),
            "weight norm": float(self.course["weights/norm"][-1]),
        }


def read_replica(directory: Path, job: str, spec: Mapping[str, Any], dataset: DatasetInfo, *, last: bool) -> Replica:
    """Read a job that has succeeded from its directory, with its kept parameters or, with `last`, with its last ones.

    Experiments that compare methods use the last ones, since the kept ones were selected on the validation rows.

    Raises OSError if the history is damaged, CheckpointError if the checkpoint cannot be used, and DatasetError if the
    data cannot be read.
    """
    found = predict(load_trained_model(directory, job, spec, dataset, last=last), spec, dataset)
    return Replica(_course(read_history(directory)), found.scores, found.truth, found.task)


def _course(history: pa.Table) -> dict[str, Numbers]:
    batch = history.combine_chunks().to_batches()[0]
    ends = np.flatnonzero(~nulls_of(batch.column("weights/norm")))
    course: dict[str, Numbers] = {}
    for name in batch.schema.names:
        if name.startswith("val/") or name == "weights/norm" or name.endswith(epoch_mean("")):
            column = batch.column(name)
            course[name.removesuffix(epoch_mean(""))] = np.where(nulls_of(column), np.nan, values_of(column))[ends]
    return course
