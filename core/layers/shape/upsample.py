"""Upsampling."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from core.arrays import aligned_empty
from core.graph.node import Layer
from core.layers.shape.margins import check_shape
from core.registry import hyperparameter

if TYPE_CHECKING:
    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class Upsample(Layer):
    """Enlarges images (batch, height, width, channels) or sequences (batch, length, channels) by whole factors.

    With `nearest`, each pixel is repeated. With `linear`, values lie on lines between the centres of adjacent pixels,
    along one axis after the other, and are constant beyond the outermost centres: it is PyTorch's `bilinear`, or
    `linear`, without `align_corners`. The gradient of a pixel is the sum of the upstream gradients of the pixels that
    it contributes to, times its weights.
    """

    type: ClassVar[str] = "upsample"
    images: ClassVar[bool] = True

    factor: int | tuple[int, ...] = hyperparameter(
        doc="Factor of height and width, or of the length: one number, or a list of one for each axis.", ge=1
    )
    mode: Literal["nearest", "linear"] = hyperparameter(default="nearest", doc="How values in between are found.")

    def infer(self, *shapes: Shape) -> Shape:
        return self._stages(shapes[0])[-1]

    def multiply_adds(self, *shapes: Shape) -> int:
        if self.mode == "nearest":
            return 0
        stages = pairwise(self._stages(shapes[0]))
        return sum(prod(after) * before[axis] for axis, (before, after) in enumerate(stages, 1))

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        if self.mode == "nearest":
            return {}
        _, *between, _ = self._stages(shapes[0])
        return {f"stage{axis}": (shape, "scratch") for axis, shape in enumerate(between, 1)}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        (x,) = inputs
        if self.mode == "nearest":
            xp.copyto(self._blocks(output, x.shape), x[_one_of_each(x.ndim)])
            return
        for axis, (before, after) in enumerate(pairwise([x, *workspace.values(), output]), 1):
            weights = _interpolation(xp, before.shape[axis], after.shape[axis], before.dtype)
            xp.matmul(weights, _matrices(before, axis), out=_matrices(after, axis))

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (gradient,) = gradients
        if gradient is None:
            return
        if self.mode == "nearest":
            repeated = tuple(range(2, 2 * gradient.ndim - 2, 2))
            xp.sum(self._blocks(upstream, gradient.shape), axis=repeated, out=gradient)
            return
        stages = list(pairwise([gradient, *workspace.values(), upstream]))
        for axis, (before, after) in reversed(list(enumerate(stages, 1))):
            weights = _interpolation(xp, before.shape[axis], after.shape[axis], before.dtype)
            xp.matmul(weights.T, _matrices(after, axis), out=_matrices(before, axis))

    def _stages(self, x: Shape) -> list[Shape]:
        """Return the shapes as one axis after the other is enlarged, from that of the input to that of the output."""
        check_shape(self.type, x)
        stages = [x]
        for axis, factor in enumerate(self._factors(len(x)), 1):
            stages.append((*stages[-1][:axis], x[axis] * factor, *x[axis + 1 :]))
        return stages

    def _factors(self, dimensions: int) -> tuple[int, ...]:
        if isinstance(self.factor, int):
            return (self.factor,) * (dimensions - 2)
        if len(self.factor) != dimensions - 2:
            raise ValueError(f"upsample.factor must be one number, or a list of {dimensions - 2}, not {self.factor}")
        return self.factor

    def _blocks(self, enlarged: Array, x: Shape) -> Array:
        """Return an array of the output's shape with an axis for the copies of a pixel behind each axis of pixels."""
        inner = zip(x[1:-1], self._factors(len(x)), strict=True)
        return enlarged.reshape(x[0], *(each for pair in inner for each in pair), x[-1])


def _one_of_each(dimensions: int) -> tuple[slice | None, ...]:
    """Return the index that gives an array of the input's shape an axis of size 1 for the copies of a pixel."""
    every = slice(None)
    return (every, *(every, None) * (dimensions - 2), every)


def _matrices(array: Array, axis: int) -> Array:
    """Return an array as matrices (..., size of the axis, product of the later axes), without a copy."""
    return array.reshape(-1, array.shape[axis], prod(array.shape[axis + 1 :]))


@lru_cache(maxsize=64)
def _interpolation(xp: Namespace, size: int, enlarged: int, dtype: np.dtype[Any]) -> Array:
    """Return the weights (enlarged, size) of the pixels of a line in those of a longer one."""
    places = (np.arange(enlarged) + 0.5) * size / enlarged - 0.5
    places = np.clip(places, 0, size - 1)
    values = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size))).astype(dtype)
    weights = aligned_empty(values.shape, dtype, xp)
    if xp is np:
        weights[...] = values
        weights.flags.writeable = False
    else:
        weights.set(values)  # type: ignore[attr-defined]  # a CuPy array
    return weights
