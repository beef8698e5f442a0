"""Random horizontal flips."""

from typing import ClassVar

from core.arrays import Array
from core.augmentations.base import Augmentation
from core.registry import hyperparameter


class RandomFlip(Augmentation):
    """Flips an image horizontally."""

    type: ClassVar[str] = "flip"

    probability: float = hyperparameter(0.5, doc="Probability of a flip.", ge=0, le=1)

    def apply(self, images: Array, numbers: Array) -> Array:
        chosen = numbers[:, 0] < self.probability
        images[chosen] = images[chosen, :, ::-1]
        return images
