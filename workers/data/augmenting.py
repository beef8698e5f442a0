"""The random changes that a job makes to its images: the same for a row of a batch, whoever computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from core import Augmentation
from core.augmentations.base import row_numbers


@dataclass(frozen=True)
class Augmentations:
    """Changes to rows that are images of a shape (height, width, channels), one after another."""

    changes: tuple[Augmentation, ...]
    shape: tuple[int, ...]
    seed: int

    def apply(self, rows: NDArray[Any], epoch: int, step: int, places: range) -> NDArray[Any]:
        """Return rows (rows, features), as they are stored, changed by what their places in the batch draw."""
        images = rows.reshape(-1, *self.shape)
        for stream, change in enumerate(self.changes):
            numbers = row_numbers(self.seed, epoch=epoch, step=step, stream=stream, rows=places)
            images = change.apply(images, numbers)
        return images.reshape(rows.shape)
