"""From rows on disk to a plan's input buffers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.device import Mirror
from workers.splitting import Rows


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of each feature, float32 of shape (features,)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


@dataclass(frozen=True)
class Batches:
    """Memory-mapped features (rows, features) and labels (rows,), and how features are standardised, if they are."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    standardization: Standardization | None

    def load(self, rows: Rows, inputs: Mirror) -> None:
        """Copy the given rows into a plan's inputs, standardising on the way; allocates nothing."""
        features, labels = inputs.host
        # mode="clip" lets NumPy write straight into `out`; the row numbers are in range by construction.
        np.take(self.features, rows, axis=0, out=features, mode="clip")
        np.take(self.labels, rows, out=labels, mode="clip")
        if self.standardization is not None:
            np.subtract(features, self.standardization.mean, out=features)
            np.divide(features, self.standardization.deviation, out=features)
        inputs.upload()


@dataclass(frozen=True)
class Batch:
    """One step's rows (batch,) of the data, and its place in the job: the epoch from 0, the step from 1."""

    data: Batches
    rows: Rows
    epoch: int
    step: int
