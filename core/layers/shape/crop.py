"""Cropping."""

from typing import ClassVar

from core.arrays import Shape
from core.layers.shape.base import Indexing
from core.layers.shape.margins import Sides, check_shape, margins_of, within
from core.registry import hyperparameter


class Crop(Indexing):
    """Cuts off margins of images (batch, height, width, channels) or sequences (batch, length, channels).

    The gradient is the upstream gradient with zeros around it.
    """

    type: ClassVar[str] = "crop"
    images: ClassVar[bool] = True

    margin: Sides = hyperparameter(
        doc="What to cut off on each side of height and width: one number, a list of one for each of the two, or of "
        "top, bottom, left and right. For sequences: one number, or a list of those before and after.",
        ge=0,
    )

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        check_shape(self.type, x)
        inner = zip(x[1:-1], margins_of("crop.margin", self.margin, len(x) - 2), strict=True)
        sizes = tuple(size - sum(around) for size, around in inner)
        if min(sizes) < 1:
            raise ValueError(f"crop.margin of {self.margin} leaves nothing of an input of shape {x}")
        return (x[0], *sizes, x[-1])

    def index_for(self, dimensions: int) -> tuple[slice, ...]:
        return within(margins_of("crop.margin", self.margin, dimensions - 2))
