"""Base class of the augmentations, and their random numbers."""

from typing import ClassVar

import numpy as np

from core.arrays import Array
from core.random import Purpose
from core.registry import Registered

# Random numbers per row and augmentation: one step of the counter generates four.
NUMBERS = 4


class Augmentation(Registered):
    """A random transformation of images."""

    kind: ClassVar[str] = "augmentation"

    @property
    def margin(self) -> int:
        """The number of pixels beyond the edges of an image that the result may contain."""
        return 0

    def apply(self, images: Array, numbers: Array) -> Array:
        """Return the transformed images (rows, height, width, channels), in their dtype. May change `images` in place.

        numbers: float64 (rows, NUMBERS), uniform on [0, 1). The result for an image depends on its own row only.
        """
        raise NotImplementedError


def cut(images: Array, margin: int, numbers: Array, mode: str) -> Array:
    """Pad each image by `margin`, and crop it to its size at a random position, from its first two numbers."""
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:], axis=(1, 2, 3))
    top, left = (numbers[:, :2] * (2 * margin + 1)).astype(np.int64).T
    result: Array = windows[np.arange(len(images)), top, left, 0]
    return result


def row_numbers(seed: int, *, epoch: int, step: int, stream: int, rows: range) -> Array:
    """Return the random numbers of some rows of a step's batch: float64 (rows, NUMBERS) on [0, 1).

    The numbers of a row depend on its position in the batch, but not on which other rows are requested: the position is
    the counter of `generator(seed, Purpose.AUGMENTATION, epoch=epoch, step=step, stream=stream)`.
    """
    key = np.array([seed, Purpose.AUGMENTATION], np.uint64)
    counter = np.array([rows.start, stream, step, epoch], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(len(rows) * NUMBERS)
    numbers: Array = (words >> np.uint64(11)) * 2.0**-53
    return numbers.reshape(len(rows), NUMBERS)
