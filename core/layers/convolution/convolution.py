"""Base class of convolutions of images, and of transposed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.arrays import add_up_rows
from core.graph.node import Kept, Layer, ParameterDeclaration
from core.initializers.base import Initializer
from core.initializers.he import He
from core.initializers.zeros import Zeros
from core.layers.convolution.window import Padding
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape


class Convolution(Layer):
    """A layer of images (batch, height, width, channels) whose windows have weights, and whose filters have biases."""

    images: ClassVar[bool] = True
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    filters: int = hyperparameter(doc="Number of channels of the output.", ge=1)
    kernel: int | tuple[int, ...] = hyperparameter(doc="Height and width of a window, or one number for both.", ge=1)
    stride: int | tuple[int, ...] = hyperparameter(default=1, doc="Distance between windows, likewise.", ge=1)
    padding: Padding = hyperparameter(
        default="valid",
        doc='Zeros on each side, likewise; "valid" is none, and "same" gives as many windows as the image has pixels, '
        "divided by the stride.",
        ge=0,
    )
    dilation: int | tuple[int, ...] = hyperparameter(
        default=1, doc="Distance between the pixels of a window, likewise.", ge=1
    )
    groups: int = hyperparameter(default=1, doc="Number of parts of the channels.", ge=1)
    weight: Initializer = hyperparameter(default=He(), doc="Initializer of the weights.")
    bias: Initializer | None = hyperparameter(
        default=Zeros(), doc="Initializer of the biases, to which penalties do not apply; null for none."
    )
    penalized: bool = hyperparameter(default=True, doc="Whether penalties and weight decay apply to the weights.")

    def check_groups(self, x: Shape) -> None:
        """Raise ValueError if the groups do not divide the channels and the filters."""
        for name, count in (("channels", x[3]), ("filters", self.filters)):
            if count % self.groups:
                raise ValueError(f"{self.type}.groups must divide the number of {name}, {count}, but is {self.groups}")

    def biases(self) -> tuple[ParameterDeclaration, ...]:
        """Return the bias, if there is one."""
        if self.bias is None:
            return ()
        return (ParameterDeclaration("bias", (self.filters,), self.bias, penalized=False),)

    def write_bias_gradients(self, xp: Namespace, upstream: Array, gradients: Sequence[Array | None]) -> None:
        """Write the sum of the upstream gradient into the gradient of the bias, if there is one and it is wanted."""
        for gradient in gradients:
            if gradient is not None:
                add_up_rows(xp, upstream.reshape(-1, self.filters), gradient)
