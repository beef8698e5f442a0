"""Random mirroring."""

from typing import ClassVar

from core.arrays import Array
from core.augmentations.base import Augmentation
from core.registry import hyperparameter


class RandomFlip(Augmentation):
    """Mirrors an image, left to right."""

    type: ClassVar[str] = "flip"

    probability: float = hyperparameter(0.5, doc="How often.", ge=0, le=1)

    def apply(self, images: Array, numbers: Array) -> Array:
        """Mirror the rows whose first number is below the probability; see `Augmentation.apply`."""
        chosen = numbers[:, 0] < self.probability
        images[chosen] = images[chosen, :, ::-1]
        return images
