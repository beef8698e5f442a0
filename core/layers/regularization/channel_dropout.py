"""Dropout of whole channels."""

from typing import ClassVar

from core.arrays import Shape
from core.graph.node import AxesError, WorkspaceDeclaration
from core.layers.axes import IMAGE
from core.layers.regularization.dropout import Dropout
from core.registry import hyperparameter


class ChannelDropout(Dropout):
    """Sets each channel of a sample to 0 with probability `rate`, and multiplies the others by `1 / (1 - rate)`.

    Inputs are (batch, ..., channels), such as images or sequences. Adjacent pixels are alike, so dropping single ones
    would remove little. The derivative is the factor, or 0. Random numbers are drawn as for `dropout`. In evaluation,
    the layer is the identity.

    Source: Tompson et al., "Efficient object localization using convolutional networks", CVPR 2015.
    """

    type: ClassVar[str] = "channel_dropout"
    images: ClassVar[bool] = True

    rate: float = hyperparameter(default=0.5, doc="The probability that a channel is dropped.", ge=0, lt=1)

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        if len(x) < 3:
            message = f"channel_dropout needs an input of shape (batch, ..., channels), not {x}; see dropout"
            raise AxesError(message, len(IMAGE))
        return x

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        batch, *inner, channels = shapes[0]
        factors = (batch, *[1] * len(inner), channels)
        return {"noise": (factors, "noise"), "factor": (factors, "float")}
