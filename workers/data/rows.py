"""From rows on disk to a plan's input buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.kernels.gather import PIECE, convert, gather
from workers.data.augmenting import Augmentations
from workers.data.scaling import Scaling
from workers.data.splitting import Rows
from workers.machine.device import Mirror


@dataclass(frozen=True)
class Batches:
    """Memory-mapped features (rows, features), as they are stored, and labels (rows,).

    With them, how features are scaled, and how images are changed at random in training.
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]
    scaling: Scaling | None
    augmentations: Augmentations | None = None

    def load(self, rows: Rows, inputs: Mirror) -> None:
        """Copy the given rows into a plan's inputs, as float32, and scaled; allocates a piece of them at most."""
        features, _ = inputs.host
        gather(self.features, rows, features, self._scale)
        self._finish(rows, inputs)

    def load_augmented(self, batch: Batch, places: range, inputs: Mirror) -> None:
        """Copy the rows at some places of a batch, like `load`, and change them on the way as training wants it."""
        rows = batch.rows[places.start : places.stop]
        if self.augmentations is None:
            self.load(rows, inputs)
            return
        features, _ = inputs.host
        count = max(1, PIECE // self.features[0].nbytes)
        for start in range(0, len(rows), count):
            piece = slice(start, start + count)
            changed = self.augmentations.apply(self.features[rows[piece]], batch.epoch, batch.step, places[piece])
            convert(changed, features[piece], self._scale)
        self._finish(rows, inputs)

    @property
    def _scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        return (self.scaling.mean, self.scaling.deviation) if self.scaling else None

    def _finish(self, rows: Rows, inputs: Mirror) -> None:
        # mode="clip" lets NumPy write straight into `out`; the row numbers are in range by construction.
        np.take(self.labels, rows, out=inputs.host[1], mode="clip")
        inputs.upload()


@dataclass(frozen=True)
class Batch:
    """One step's rows (batch,) of the data, and its place in the job: the epoch from 0, the step from 1."""

    data: Batches
    rows: Rows
    epoch: int
    step: int
