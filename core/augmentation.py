"""Random changes to the images of a batch, in training only, so that a model does not learn what does not matter."""

from typing import ClassVar

import numpy as np

from core.arrays import Array
from core.random import Purpose
from core.registry import Registered, hyperparameter

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


class RandomFlip(Augmentation):
    """Mirrors an image, left to right."""

    type: ClassVar[str] = "flip"

    probability: float = hyperparameter(0.5, doc="How often.", ge=0, le=1)

    def apply(self, images: Array, numbers: Array) -> Array:
        """Mirror the rows whose first number is below the probability; see `Augmentation.apply`."""
        chosen = numbers[:, 0] < self.probability
        images[chosen] = images[chosen, :, ::-1]
        return images


class RandomCrop(Augmentation):
    """Adds a border of zeros to an image and cuts the image's size out of it anywhere.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    """

    type: ClassVar[str] = "crop"

    padding: int = hyperparameter(4, doc="Width of the border in pixels.", ge=1, le=1024)

    @property
    def margin(self) -> int:
        """See `Augmentation.margin`."""
        return self.padding

    def apply(self, images: Array, numbers: Array) -> Array:
        """Cut by the first two numbers; see `Augmentation.apply`."""
        return _cut(images, self.padding, numbers, "constant")


class RandomShift(Augmentation):
    """Moves an image by up to some pixels in each direction; the pixels at its edges are repeated."""

    type: ClassVar[str] = "shift"

    pixels: int = hyperparameter(2, doc="How far at most.", ge=1, le=1024)

    @property
    def margin(self) -> int:
        """See `Augmentation.margin`."""
        return self.pixels

    def apply(self, images: Array, numbers: Array) -> Array:
        """Move by the first two numbers; see `Augmentation.apply`."""
        return _cut(images, self.pixels, numbers, "edge")


def _cut(images: Array, margin: int, numbers: Array, mode: str) -> Array:
    """Cut each image's size out of it and a margin, at a place that its numbers draw."""
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode)  # type: ignore[call-overload]
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:], axis=(1, 2, 3))
    top, left = (numbers[:, :2] * (2 * margin + 1)).astype(np.int64).T
    cut: Array = windows[np.arange(len(images)), top, left, 0]
    return cut


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
