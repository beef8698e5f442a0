"""Losses whose targets are values like the predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from core.graph.node import Loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Workspace, WorkspaceDeclaration


class ValueLoss(Loss):
    """A sum over the entries of a sample of a function of the difference of prediction and target.

    Predictions x and targets t (batch, ...), to (batch,). What is left to write is the function and its derivative.
    """

    target: ClassVar[Literal["labels", "values"]] = "values"

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        """Write the function of `difference` into `value` and its derivative into `slope`."""
        raise NotImplementedError

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch,)."""
        predictions, targets = shapes
        if not predictions or predictions != targets:
            shapes_given = f"{predictions} and {targets}"
            raise ValueError(
                f"{self.type} needs predictions and targets of equal shape (batch, ...), not {shapes_given}"
            )
        return predictions[:1]

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the slopes, and room for differences and values."""
        return {"slope": (shapes[0], "float"), "difference": (shapes[0], "scratch"), "value": (shapes[0], "scratch")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the losses, and keep the slopes."""
        difference = xp.subtract(*inputs, out=workspace["difference"])
        self.curve(xp, difference, workspace["value"], workspace["slope"])
        xp.sum(workspace["value"], axis=tuple(range(1, difference.ndim)), out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream slope` for the predictions and its negative for the targets."""
        slope = workspace["slope"]
        upstream = upstream.reshape(upstream.shape + (1,) * (slope.ndim - 1))
        x_gradient, target_gradient = gradients
        if x_gradient is not None:
            xp.multiply(slope, upstream, out=x_gradient)
        if target_gradient is not None:
            xp.multiply(slope, upstream, out=target_gradient)
            xp.negative(target_gradient, out=target_gradient)
