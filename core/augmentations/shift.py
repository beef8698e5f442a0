"""Random shifts."""

from typing import ClassVar

from core.arrays import Array
from core.augmentations.base import Augmentation, cut
from core.registry import hyperparameter


class RandomShift(Augmentation):
    """Shifts an image by up to `pixels` in each direction, and repeats the pixels at its edges."""

    type: ClassVar[str] = "shift"

    pixels: int = hyperparameter(2, doc="The largest shift in pixels.", ge=1, le=1024)

    @property
    def margin(self) -> int:
        return self.pixels

    def apply(self, images: Array, numbers: Array) -> Array:
        return cut(images, self.pixels, numbers, "edge")
