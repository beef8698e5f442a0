"""Maxout."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Layer, Workspace, WorkspaceDeclaration
from core.registry import hyperparameter


class Maxout(Layer):
    """The largest of each `pieces` features in a row: (batch, ..., units * pieces) to (batch, ..., units).

    After a linear layer of units * pieces outputs it is the maxout layer of the paper. The derivative is 1 for the
    largest and 0 for the others; n that tie have `1 / n` each.

    Source: Goodfellow et al., "Maxout networks", ICML 2013.
    """

    type: ClassVar[str] = "maxout"

    pieces: int = hyperparameter(default=2, doc="How many features compete for each output.", ge=1)

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, ..., units)."""
        (x,) = shapes
        if len(x) < 2 or x[-1] % self.pieces:
            raise ValueError(f"maxout needs an input of shape (batch, ..., a multiple of {self.pieces}), not {x}")
        return (*x[:-1], x[-1] // self.pieces)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the derivatives, by unit and piece, and room for the number of ties."""
        units = self.infer(*shapes)
        return {"slope": ((*units, self.pieces), "float"), "ties": (units, "scratch")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the maxima, and keep the derivatives."""
        slope, ties = workspace["slope"], workspace["ties"]
        xp.copyto(slope.reshape(inputs[0].shape), inputs[0])
        xp.max(slope, axis=-1, out=output)
        # A difference of two numbers is 0 only where they are equal, and negative elsewhere.
        xp.subtract(slope, output[..., None], out=slope)
        xp.sign(slope, out=slope)
        xp.add(slope, 1, out=slope)
        xp.sum(slope, axis=-1, out=ties)
        xp.divide(slope, ties[..., None], out=slope)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` times the derivatives."""
        (gradient,) = gradients
        if gradient is not None:
            slope = workspace["slope"]
            xp.multiply(slope, upstream[..., None], out=gradient.reshape(slope.shape))

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return which features are the largest."""
        (x,) = inputs
        pieces = x.reshape(*self.infer(x.shape), self.pieces)
        largest: Array = pieces == pieces.max(axis=-1, keepdims=True)
        return largest
