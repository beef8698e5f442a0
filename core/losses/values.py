"""Base class of the losses whose targets are values of the shape of the predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.arrays import along_rows
from core.graph.node import Loss, Task, sides

if TYPE_CHECKING:
    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class ValueLoss(Loss):
    """The sum over the entries of a sample of a function of the difference between prediction and target.

    Predictions and targets (batch, ...), to (batch,). A subclass implements `curve`, the function and its derivative.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"regression"})

    def kinks(self) -> tuple[float, ...]:
        """Return the differences at which the first or second derivative is discontinuous."""
        return ()

    def curve(self, xp: Namespace, difference: Array, value: Array, slope: Array) -> None:
        """Write the function of `difference` into `value`, and its derivative into `slope`."""
        raise NotImplementedError

    def infer(self, *shapes: Shape) -> Shape:
        predictions, targets = shapes
        if not predictions or predictions != targets:
            raise ValueError(
                f"{self.type} needs predictions and targets of equal shape (batch, ...), "
                f"not {predictions} and {targets}"
            )
        return predictions[:1]

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"slope": (shapes[0], "float"), "difference": (shapes[0], "scratch"), "value": (shapes[0], "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        difference = xp.subtract(*inputs, out=workspace["difference"])
        self.curve(xp, difference, workspace["value"], workspace["slope"])
        xp.sum(workspace["value"], axis=tuple(range(1, difference.ndim)), out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        slope = workspace["slope"]
        upstream = along_rows(upstream, slope)
        x_gradient, target_gradient = gradients
        if x_gradient is not None:
            xp.multiply(slope, upstream, out=x_gradient)
        if target_gradient is not None:
            xp.multiply(slope, upstream, out=target_gradient)
            xp.negative(target_gradient, out=target_gradient)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array | None:
        return sides(xp, xp.subtract(*inputs), self.kinks())
