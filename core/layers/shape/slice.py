"""A part of each sample."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Layer
from core.layers.axes import axis_of
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Workspace


class Slice(Layer):
    """The numbers from `start` up to and without `stop` along an axis: (batch, ...), which keeps its other axes.

    The gradient is `upstream` there and 0 elsewhere.
    """

    type: ClassVar[str] = "slice"

    start: int = hyperparameter(default=0, doc="The first.", ge=0)
    stop: int | None = hyperparameter(default=None, doc="One more than the last; by default all that follow.", ge=1)
    axis: int = hyperparameter(default=-1, doc="The axis; negative ones count from the back. Axis 0 counts samples.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape with its size along the axis changed."""
        (x,) = shapes
        axis = axis_of(self.type, self.axis, len(x))
        stop = x[axis] if self.stop is None else self.stop
        if not self.start < stop <= x[axis]:
            raise ValueError(f"slice from {self.start} to {stop} does not fit along axis {axis} of an input {x}")
        return (*x[:axis], stop - self.start, *x[axis + 1 :])

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Copy the part."""
        xp.copyto(output, inputs[0][self._place(output.ndim)])

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

    def _place(self, dimensions: int) -> tuple[builtins.slice, ...]:
        before = (builtins.slice(None),) * (self.axis % dimensions)
        return (*before, builtins.slice(self.start, self.stop))
