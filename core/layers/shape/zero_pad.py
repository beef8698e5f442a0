"""Padding with zeros."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Layer, Workspace
from core.layers.shape.margins import Margins, Sides, check_shape, margins_of, within
from core.registry import hyperparameter


class ZeroPad(Layer):
    """Adds zeros around images (batch, height, width, channels) or sequences (batch, length, channels).

    The gradient is the upstream gradient without the margins.
    """

    type: ClassVar[str] = "zero_pad"
    images: ClassVar[bool] = True

    padding: Sides = hyperparameter(
        default=0,
        doc="Zeros on each side of height and width: one number, a list of one for each of the two, or of top, bottom, "
        "left and right. For sequences: one number, or a list of those before and after.",
        ge=0,
    )
    channels: Sides = hyperparameter(
        default=0, doc="Channels of zeros: one number for each side, or a list of those before and after.", ge=0
    )

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        check_shape(self.type, x)
        margins = self._margins(len(x))
        return (x[0], *(size + sum(around) for size, around in zip(x[1:], margins, strict=True)))

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        output.fill(0)
        xp.copyto(output[within(self._margins(x.ndim))], x)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            xp.copyto(gradient, upstream[within(self._margins(gradient.ndim))])

    def _margins(self, dimensions: int) -> Margins:
        """Return the margins of all axes but the batch axis."""
        return (
            *margins_of("zero_pad.padding", self.padding, dimensions - 2),
            *margins_of("zero_pad.channels", self.channels, 1),
        )
