"""Copies rows from disk into a plan's input buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Array, Namespace
from core.kernels.gather import PIECE, convert, gather
from core.tables.preparation import Preparer
from workers.data.augmenting import Augmentations
from workers.data.scaling import Scaling
from workers.data.splitting import Rows
from workers.machine.device import Mirror


@dataclass(frozen=True)
class Batches:
    """Memory-mapped features (rows, features) in their stored dtype, and the truth: labels (rows,) or targets.

    Targets are float32 (rows, targets). Also holds how features and targets are scaled, how images are augmented in
    training, and how the columns of a table are prepared instead.
    """

    features: NDArray[Any]
    truth: NDArray[Any]
    scaling: Scaling | None
    augmentations: Augmentations | None = None
    target_scaling: Scaling | None = None
    preparer: Preparer | None = None

    def load(self, rows: Rows, inputs: Mirror) -> None:
        """Copy the given rows into a plan's inputs as float32, scaled or prepared; allocates at most one piece."""
        features, _ = inputs.host
        if self.preparer is None:
            gather(self.features, rows, features, self._scale)
        else:
            self.preparer.load(self.features, rows, features)
        self._finish(rows, inputs)

    def load_augmented(self, batch: Batch, places: range, inputs: Mirror) -> None:
        """Copy the rows at some places of a batch like `load`, and augment them."""
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
        # With mode="clip" NumPy writes directly into `out`; the row numbers are always in range.
        np.take(self.truth, rows, axis=0, out=inputs.host[1], mode="clip")
        if self.target_scaling is not None:
            self.target_scaling.apply(inputs.host[1])
        inputs.upload()

    def in_own_units(self, xp: Namespace, predictions: Array, rows: Rows, inputs: Mirror) -> tuple[Array, Array]:
        """Return predictions of rows that were loaded into `inputs`, and their truth, in the targets' own units."""
        if self.target_scaling is None:
            return predictions, inputs.device[1]
        return self.target_scaling.undo(xp, predictions), xp.asarray(self.truth[rows])


@dataclass(frozen=True)
class Batch:
    """Row numbers (batch,) of one step, its epoch, counted from 0, and its number, counted from 1."""

    data: Batches
    rows: Rows
    epoch: int
    step: int
