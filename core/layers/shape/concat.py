"""Concatenation."""

from collections.abc import Iterator
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Layer, Workspace, copied
from core.layers.axes import axis_of
from core.registry import hyperparameter


class Concat(Layer):
    """Concatenates two or more inputs along an axis. Their shapes (batch, ...) may differ along this axis only.

    The gradient of each input is the corresponding part of the upstream gradient.
    """

    type: ClassVar[str] = "concat"
    arity: ClassVar[int] = 2
    variadic: ClassVar[bool] = True

    axis: int = hyperparameter(default=-1, doc="The axis; negative ones count from the back. Axis 0 is the batch axis.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the shape of the inputs, with their sizes along the axis added."""
        first = shapes[0]
        axis = axis_of(self.type, self.axis, len(first))
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(rests) > 1 or any(len(shape) != len(first) for shape in shapes):
            given = " and ".join(map(str, shapes))
            raise ValueError(f"{self.type} needs inputs whose shapes differ along axis {axis} only, not {given}")
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def origins(self, *inputs: Array) -> Array | None:
        return copied(self, inputs)

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        for part, x in zip(self._parts(output, inputs), inputs, strict=True):
            xp.copyto(part, x)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        for part, gradient in zip(self._parts(upstream, inputs), gradients, strict=True):
            if gradient is not None:
                xp.copyto(gradient, part)

    def _parts(self, whole: Array, inputs: Inputs) -> Iterator[Array]:
        """Yield a view of the part of `whole`, an array of the output's shape, that corresponds to each input."""
        before = (slice(None),) * (self.axis % whole.ndim)
        start = 0
        for x in inputs:
            stop = start + x.shape[self.axis]
            yield whole[(*before, slice(start, stop))]
            start = stop
