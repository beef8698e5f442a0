"""Random changes to images, which depend on the place of a row in its batch and not on the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from core import Augmentation
from core.augmentations.base import row_numbers


@dataclass(frozen=True)
class Augmentations:
    """Changes, applied one after another, to rows that are images of a shape (height, width, channels)."""

    changes: tuple[Augmentation, ...]
    shape: tuple[int, ...]
    seed: int

    def apply(self, rows: NDArray[Any], epoch: int, step: int, places: range) -> NDArray[Any]:
        """Return rows (rows, features) in their stored dtype, changed as drawn for their places in the batch."""
        images = rows.reshape(-1, *self.shape)
        for stream, change in enumerate(self.changes):
            numbers = row_numbers(self.seed, epoch=epoch, step=step, stream=stream, rows=places)
            images = change.apply(images, numbers)
        return images.reshape(rows.shape)
