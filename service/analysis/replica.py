"""A trained job for a comparison over seeds: its metrics by epoch, and its final scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core import Hinge, SoftmaxCrossEntropy
from service.analysis.measures import accuracy, calibration, losses, margins
from service.analysis.predictions import predict
from service.analysis.trained_model import load_trained_model
from workers.data.arrow import nulls_of, values_of
from workers.record.history_files import read_history

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    import pyarrow as pa
    from numpy.typing import NDArray

    from service.analysis.measures import Numbers
    from workers.data.dataset import DatasetInfo

# Recorded at each step, and averaged over an epoch.
OF_STEPS = ("train/active_fraction",)
OF_EPOCHS = ("val/accuracy", "weights/norm")


@dataclass(frozen=True)
class Replica:
    """One of several jobs that differ only in the seed.

    `course` maps the name of a metric to its value at each epoch, NaN where it was not measured. `scores` (rows,
    classes) and `labels` (rows,) are those of the validation rows after the last step. The best parameters are not
    used, since they were selected on these rows.
    """

    course: Mapping[str, Numbers]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def figures(self) -> dict[str, float]:
        """Return the final figures by name."""
        return {
            "accuracy": accuracy(self.scores, self.labels),
            "hinge": float(losses(Hinge(), self.scores, self.labels).mean()),
            "softmax": float(losses(SoftmaxCrossEntropy(), self.scores, self.labels).mean()),
            "calibration error": calibration(self.scores, self.labels).error,
            "median margin": float(np.median(margins(self.scores, self.labels))),
            "active": float(self.course["train/active_fraction"][-1]),
            "weight norm": float(self.course["weights/norm"][-1]),
        }


def read_replica(directory: Path, job: str, spec: Mapping[str, Any], dataset: DatasetInfo) -> Replica:
    """Read a job that has succeeded from its directory.

    Raises OSError if the history is damaged, CheckpointError if the checkpoint cannot be used, and DatasetError if the
    data cannot be read.
    """
    found = predict(load_trained_model(directory, job, spec, dataset, last=True), spec, dataset)
    return Replica(_course(read_history(directory)), found.scores, found.labels)


def _course(history: pa.Table) -> dict[str, Numbers]:
    batch = history.combine_chunks().to_batches()[0]
    ends = np.flatnonzero(~nulls_of(batch.column("weights/norm")))
    starts = np.concatenate([[0], ends[:-1] + 1])
    course: dict[str, Numbers] = {}
    for name in OF_EPOCHS:
        column = batch.column(name)
        course[name] = np.where(nulls_of(column), np.nan, values_of(column))[ends]
    for name in OF_STEPS:
        sums = np.add.reduceat(values_of(batch.column(name))[: ends[-1] + 1], starts)
        course[name] = sums / (ends + 1 - starts)
    return course
