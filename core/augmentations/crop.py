"""Random crops of a padded image."""

from typing import ClassVar

from core.arrays import Array
from core.augmentations.base import Augmentation, cut
from core.registry import hyperparameter


class RandomCrop(Augmentation):
    """Pads an image with zeros, and crops it to its size at a random position.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.
    """

    type: ClassVar[str] = "crop"

    padding: int = hyperparameter(4, doc="Width of the padding in pixels.", ge=1, le=1024)

    @property
    def margin(self) -> int:
        return self.padding

    def apply(self, images: Array, numbers: Array) -> Array:
        return cut(images, self.padding, numbers, "constant")
