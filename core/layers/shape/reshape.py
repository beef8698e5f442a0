"""Another shape for each sample."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Layer, Workspace
from core.registry import hyperparameter


class Reshape(Layer):
    """(batch, ...) to (batch, *shape), the last axis running fastest. The gradient is `upstream`, shaped back."""

    type: ClassVar[str] = "reshape"

    shape: tuple[int, ...] = hyperparameter(doc="The shape of a sample, without the batch.", ge=1)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, *shape)."""
        (x,) = shapes
        if not x or prod(x[1:]) != prod(self.shape):
            raise ValueError(f"reshape to {self.shape} needs {prod(self.shape)} numbers a sample, not shape {x}")
        return (x[0], *self.shape)

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
