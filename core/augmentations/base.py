"""Base class of the augmentations, and the random numbers that they use."""

from typing import ClassVar

import numpy as np

from core.arrays import Array
from core.random import Purpose
from core.registry import Registered

# Random numbers that an augmentation has for each row: what one step of the counter gives.
NUMBERS = 4


class Augmentation(Registered):
    """A change to images that depends on random numbers, a few for each image."""

    kind: ClassVar[str] = "augmentation"

    @property
    def margin(self) -> int:
        """How far beyond the edge of an image it may look, in pixels."""
        return 0

    def apply(self, images: Array, numbers: Array) -> Array:
        """Return the images (rows, height, width, channels) changed, in their dtype; they themselves may be, too.

        numbers: float64 (rows, NUMBERS), uniform on [0, 1). Each image depends on its own row of them alone.
        """
        raise NotImplementedError


def cut(images: Array, margin: int, numbers: Array, mode: str) -> Array:
    """Cut each image's size out of it and a margin, at a place that its numbers draw."""
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:], axis=(1, 2, 3))
    top, left = (numbers[:, :2] * (2 * margin + 1)).astype(np.int64).T
    result: Array = windows[np.arange(len(images)), top, left, 0]
    return result


def row_numbers(seed: int, *, epoch: int, step: int, stream: int, rows: range) -> Array:
    """Draw the numbers of some rows of a step's batch: float64 (rows, NUMBERS) on [0, 1).

    Those of a row depend on its place in the batch, whatever rows it is drawn with: the counter of
    `generator(seed, Purpose.AUGMENTATION, epoch=epoch, step=step, stream=stream)` is set to it.
    """
    key = np.array([seed, Purpose.AUGMENTATION], np.uint64)
    counter = np.array([rows.start, stream, step, epoch], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(len(rows) * NUMBERS)
    numbers: Array = (words >> np.uint64(11)) * 2.0**-53
    return numbers.reshape(len(rows), NUMBERS)
