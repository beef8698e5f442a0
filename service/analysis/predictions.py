"""The scores that a trained model gives the rows it was validated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workers.dataset import open_dataset
from workers.evaluation import MAX_ROWS
from workers.spec import JobSpec
from workers.splitting import split, validation_rows
from workers.tree import split_evenly

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from core import Plan
    from service.analysis.trained_model import TrainedModel
    from workers.dataset import DatasetInfo

MOST_ROWS = 50_000
MOST_VALUES = 1 << 26  # features of all those rows together: 256 MiB


@dataclass(frozen=True)
class Predictions:
    """What a model says of rows: scores float32 (n, classes), and what is so: labels int64 (n,).

    `features`, float32 (n, features), are those of the dataset, not standardised. `source` names the rows, "validation"
    or "training", and `available` says how many of those there are: n of them, drawn by the seed. The parameters are
    those after `step`.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    features: NDArray[np.float32]
    source: str
    available: int
    step: int

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the highest score, int64 (n,); of equal ones the first."""
        classes: NDArray[np.int64] = self.scores.argmax(axis=1)
        return classes

    @property
    def in_words(self) -> str:
        """Which rows and parameters these are: "360 validation rows, after step 480"."""
        among = "" if len(self.labels) == self.available else f" of {self.available:,}"
        return f"{len(self.labels):,}{among} {self.source} rows, after step {self.step:,}"


def predict(model: TrainedModel, spec: Mapping[str, Any], dataset: DatasetInfo) -> Predictions:
    """Scores of a job's validation rows, or of its training rows where it has no others, in the dataset's order.

    They are the bits that the job's metrics were computed from, as long as all the rows are taken.
    Raises DatasetError where the data can not be read.
    """
    job = JobSpec.model_validate(spec)
    kept = validation_rows(dataset.rows, job.data.validation)
    most = min(MOST_ROWS, max(1, MOST_VALUES // dataset.features))
    # The seed draws an order of the rows, and validation takes them from its head: a smaller share takes fewer of them.
    share = min(job.data.validation if kept else 1.0, most / dataset.rows)
    _, rows = split(dataset.rows, share, job.training.seed)

    all_features, all_labels = open_dataset(dataset)
    features, labels = all_features[rows], all_labels[rows]
    scores = np.empty((len(rows), len(dataset.classes)), np.float32)
    plans: dict[int, Plan] = {}
    # A sum's bits depend on a matrix's height: rows go through the model in the blocks that evaluation takes them in.
    for shard in split_evenly(len(rows), job.training.shards or 1):
        for start in range(shard.start, shard.stop, MAX_ROWS):
            block = slice(start, min(start + MAX_ROWS, shard.stop))
            height = block.stop - block.start
            if height not in plans:
                plans[height] = model.plan(height)
            plan = plans[height]
            values = plan.inputs["features"]
            np.copyto(values, features[block])
            if model.standardization is not None:
                np.subtract(values, model.standardization.mean, out=values)
                np.divide(values, model.standardization.deviation, out=values)
            plan.forward()
            scores[block] = plan.value("scores")
    source = "validation" if kept else "training"
    return Predictions(scores, labels, dataset.classes, features, source, kept or dataset.rows, model.step)
