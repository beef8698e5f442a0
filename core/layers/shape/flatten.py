"""All of a sample in one row."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Layer, Workspace


class Flatten(Layer):
    """(batch, ...) to (batch, features), the last axis running fastest. The gradient is `upstream`, shaped back."""

    type: ClassVar[str] = "flatten"

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, features)."""
        (x,) = shapes
        if not x:
            raise ValueError("flatten needs an input of shape (batch, ...), not ()")
        return (x[0], prod(x[1:]))

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Copy the input."""
        (x,) = inputs
        xp.copyto(output.reshape(x.shape), x)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Copy `upstream`."""
        (gradient,) = gradients
        if gradient is not None:
            xp.copyto(gradient.reshape(upstream.shape), upstream)
