"""One place along an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Layer
from core.layers.axes import axis_of
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Workspace


class Select(Layer):
    """The numbers at `index` along an axis, which is gone in the output: (batch, ...) of two axes or more.

    The gradient is `upstream` there and 0 elsewhere.
    """

    type: ClassVar[str] = "select"

    index: int = hyperparameter(doc="The place along the axis.", ge=0)
    axis: int = hyperparameter(default=-1, doc="The axis; negative ones count from the back. Axis 0 counts samples.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape without the axis."""
        (x,) = shapes
        axis = axis_of(self.type, self.axis, len(x))
        if self.index >= x[axis]:
            raise ValueError(
                f"select needs an index below {x[axis]} along axis {axis} of an input {x}, not {self.index}"
            )
        return (*x[:axis], *x[axis + 1 :])

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Copy the numbers."""
        (x,) = inputs
        xp.copyto(output, x[self._place(x.ndim)])

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` where it was taken from, and 0 elsewhere."""
        (gradient,) = gradients
        if gradient is not None:
            gradient.fill(0)
            xp.copyto(gradient[self._place(gradient.ndim)], upstream)

    def _place(self, dimensions: int) -> tuple[slice | int, ...]:
        return (*(slice(None),) * (self.axis % dimensions), self.index)
