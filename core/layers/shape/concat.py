"""Concatenation."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Arithmetic, Workspace
from core.layers.axes import axis_of
from core.registry import hyperparameter


class Concat(Arithmetic):
    """Two inputs or more, one after another along an axis: shapes (batch, ...) that differ along this axis alone.

    Each input's gradient is its part of the output's.
    """

    type: ClassVar[str] = "concat"
    arity: ClassVar[int] = 2
    variadic: ClassVar[bool] = True

    axis: int = hyperparameter(default=-1, doc="The axis; negative ones count from the back. Axis 0 counts samples.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape with the sizes along the axis added up."""
        first = shapes[0]
        axis = axis_of(self.type, self.axis, len(first))
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(rests) > 1 or any(len(shape) != len(first) for shape in shapes):
            given = " and ".join(map(str, shapes))
            raise ValueError(f"{self.type} needs inputs of shapes that differ along axis {axis} alone, not {given}")
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Copy the inputs side by side."""
        for part, x in zip(self._parts(output, inputs), inputs, strict=True):
            xp.copyto(part, x)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Copy each input's part of `upstream`."""
        for part, gradient in zip(self._parts(upstream, inputs), gradients, strict=True):
            if gradient is not None:
                xp.copyto(gradient, part)

    def _parts(self, whole: Array, inputs: Sequence[Array]) -> Iterator[Array]:
        """Yield the views of an array of the output's shape that belong to each input."""
        before = (slice(None),) * (self.axis % whole.ndim)
        start = 0
        for x in inputs:
            stop = start + x.shape[self.axis]
            yield whole[(*before, slice(start, stop))]
            start = stop
