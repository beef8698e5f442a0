"""Random shifts."""

from typing import ClassVar

from core.arrays import Array
from core.augmentations.base import Augmentation, cut
from core.registry import hyperparameter


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
        return cut(images, self.pixels, numbers, "edge")
