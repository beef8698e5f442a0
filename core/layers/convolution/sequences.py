"""Base class of the layers whose windows slide over sequences."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from core.graph.node import Layer
from core.layers.axes import SEQUENCE, check_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, ParameterDeclaration, Workspace, WorkspaceDeclaration

#: values along the height, which is 1, of fields with one number for height and width
ALONG_HEIGHT = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
#: words of errors about images, and of those about sequences
OF_SEQUENCES = (("in width", "in length"), ("the image", "the sequence"))


class OfSequences(Layer):
    """A layer of sequences (batch, length, channels): that of images for images of height 1.

    Arrays are passed on as views. A subclass has the fields of the layer of images.
    """

    #: the layer of images
    of_images: ClassVar[type[Layer]]

    @cached_property
    def _layer(self) -> Layer:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if name in ALONG_HEIGHT and isinstance(value, int):
                values[name] = (ALONG_HEIGHT[name], value)
        return self.of_images(**values)

    def infer(self, *shapes: Shape) -> Shape:
        (x,) = shapes
        check_axes(self.type, x, SEQUENCE)
        try:
            batch, _, length, channels = self._layer.infer(_image(x))
        except ValueError as error:
            message = str(error)
            for of_images, of_sequences in ((self.of_images.type, self.type), *OF_SEQUENCES):
                message = message.replace(of_images, of_sequences)
            raise ValueError(message) from None
        return (batch, length, channels)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return those of the layer of images, without the height of a window."""
        return tuple(
            replace(each, shape=each.shape[1:]) if len(each.shape) == 4 else each
            for each in self._layer.parameters(_image(shapes[0]))
        )

    def multiply_adds(self, *shapes: Shape) -> int:
        return self._layer.multiply_adds(*map(_image, shapes))

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return self._layer.workspace(*map(_image, shapes))

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        self._layer.forward(xp, _views(inputs), output[:, None], workspace)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        self._layer.backward(xp, upstream[:, None], _views(inputs), output[:, None], workspace, _views(gradients))

    def branches(self, xp: Namespace, inputs: Inputs) -> Array | None:
        return self._layer.branches(xp, _views(inputs))


def _image(sequence: Shape) -> Shape:
    return (sequence[0], 1, *sequence[1:])


def _views(arrays: Sequence[Array | None]) -> list[Any]:
    """Return a sequence and parameters, or their gradients, as those of the layer of images."""
    sequence, *parameters = arrays
    views = [None if sequence is None else sequence[:, None]]
    return views + [each if each is None or each.ndim == 1 else each[None] for each in parameters]
