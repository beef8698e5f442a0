"""Random crops of a padded image."""

from typing import ClassVar

from core.arrays import Array
from core.augmentations.base import Augmentation, cut
from core.registry import hyperparameter


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
        return cut(images, self.padding, numbers, "constant")
