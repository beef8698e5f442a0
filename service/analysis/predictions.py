"""Scores of a trained model on the validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core import Purpose, generator
from core.kernels.gather import gather
from workers.data.dataset import open_dataset
from workers.data.splitting import split_evenly
from workers.job.data import split_rows
from workers.job.spec import JobSpec
from workers.training.evaluation import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from service.analysis.trained_model import TrainedModel
    from workers.data.dataset import DatasetInfo

MOST_ROWS = 50_000


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model: scores float32 (n, classes) and the true labels int64 (n,).

    `rows`, int64 (n,), are their numbers in the dataset. `source` names them, "validation" or "training", and
    `available` says how many of those there are: n of them, drawn by the seed. The parameters are those after `step`.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    rows: NDArray[np.int64]
    source: str
    available: int
    step: int

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class with the highest score, int64 (n,); the first of several equal ones."""
        classes: NDArray[np.int64] = self.scores.argmax(axis=1)
        return classes

    @property
    def in_words(self) -> str:
        """Which rows and parameters these are: "360 validation rows, after step 480"."""
        among = "" if len(self.labels) == self.available else f" of {self.available:,}"
        return f"{len(self.labels):,}{among} {self.source} rows, after step {self.step:,}"


def predict(trained: TrainedModel, spec: Mapping[str, Any], dataset: DatasetInfo) -> Predictions:
    """Scores of a job's validation rows, or of its training rows if it has no validation rows, in the dataset's order.

    They are the bits that the job's metrics were computed from, as long as all the rows are taken.
    Raises DatasetError if the data cannot be read.
    """
    job = JobSpec.model_validate(spec)
    features, labels = open_dataset(dataset)
    train, validation = split_rows(job, dataset, labels)
    source, rows = ("validation", validation) if len(validation) else ("training", train)
    available = len(rows)
    if available > MOST_ROWS:
        drawn = generator(job.training.seed, Purpose.SPLIT, step=1).permutation(available)[:MOST_ROWS]
        rows = rows[np.sort(drawn)]
    scaling = trained.scaling
    scale = None if scaling is None else (scaling.mean, scaling.deviation)
    scores = np.empty((len(rows), len(dataset.classes)), np.float32)
    # A sum's bits depend on a matrix's height: rows go through the model in the blocks that evaluation takes them in.
    for shard in split_evenly(len(rows), job.training.shards or 1):
        for start in range(shard.start, shard.stop, MAX_ROWS):
            block = slice(start, min(start + MAX_ROWS, shard.stop))
            plan = trained.model.plan(block.stop - block.start)
            gather(features, rows[block], plan.inputs["features"], scale)
            plan.forward()
            scores[block] = plan.value("scores")
    return Predictions(scores, labels[rows], dataset.classes, rows, source, available, trained.step)
