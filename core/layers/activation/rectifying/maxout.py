"""Maxout."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Layer, Workspace, WorkspaceDeclaration
from core.kernels.ties import write_derivative_of_max
from core.registry import hyperparameter


class Maxout(Layer):
    """The maximum of each group of `pieces` adjacent features: (batch, ..., units * pieces) to (batch, ..., units).

    After a linear layer with units * pieces outputs, this is the maxout layer of the paper. The derivative is 1 for the
    maximum and 0 for the others; if n features tie for the maximum, it is `1 / n` for each of them.

    Source: Goodfellow et al., "Maxout networks", ICML 2013.
    """

    type: ClassVar[str] = "maxout"

    pieces: int = hyperparameter(default=2, doc="Number of features per output.", ge=1)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, ..., units)."""
        (x,) = shapes
        if len(x) < 2 or x[-1] % self.pieces:
            raise ValueError(f"maxout needs an input of shape (batch, ..., a multiple of {self.pieces}), not {x}")
        return (*x[:-1], x[-1] // self.pieces)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        units = self.infer(*shapes)
        return {"slope": ((*units, self.pieces), "float"), "ties": (units, "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        slope = workspace["slope"]
        xp.copyto(slope.reshape(inputs[0].shape), inputs[0])
        xp.max(slope, axis=-1, out=output)
        write_derivative_of_max(xp, slope, output, workspace["ties"])

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is not None:
            slope = workspace["slope"]
            xp.multiply(slope, upstream[..., None], out=gradient.reshape(slope.shape))

    def branches(self, xp: Namespace, inputs: Inputs) -> Array:
        (x,) = inputs
        pieces = x.reshape(*self.infer(x.shape), self.pieces)
        largest: Array = pieces == pieces.max(axis=-1, keepdims=True)
        return largest
