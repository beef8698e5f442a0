"""The product of two matrices."""

from math import prod
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import AxesError, Gradients, Inputs, Kept, Layer, Workspace
from core.registry import hyperparameter


class MatMul(Layer):
    """`X Y` of two matrices per sample: (batch, n, m) and (batch, m, p) to (batch, n, p).

    The gradients of X and Y are `U Yᵀ` and `Xᵀ U`, where U is the upstream gradient. It is Torch's `MM`. A vector is a
    matrix with one column, which `reshape` makes of it.
    """

    type: ClassVar[str] = "matmul"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})
    arity: ClassVar[int] = 2

    transpose_first: bool = hyperparameter(default=False, doc="Whether the first input is (batch, m, n).")
    transpose_second: bool = hyperparameter(default=False, doc="Whether the second input is (batch, p, m).")

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, n, p)."""
        x, y = shapes
        if len(x) == len(y) == 3 and x[0] == y[0]:
            rows, inner = x[:0:-1] if self.transpose_first else x[1:]
            again, columns = y[:0:-1] if self.transpose_second else y[1:]
            if inner == again:
                return (x[0], rows, columns)
        first = "(batch, m, n)" if self.transpose_first else "(batch, n, m)"
        second = "(batch, p, m)" if self.transpose_second else "(batch, m, p)"
        message = f"matmul needs inputs of shapes {first} and {second}, not {x} and {y}"
        raise ValueError(message) if len(x) == len(y) == 3 else AxesError(message, 2)

    def multiply_adds(self, *shapes: Shape) -> int:
        return prod(self.infer(*shapes)) * shapes[0][1 if self.transpose_first else 2]

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        xp.matmul(*self._as_written(*inputs), out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x, y = self._as_written(*inputs)
        x_gradient, y_gradient = gradients
        if x_gradient is not None:
            _product(xp, upstream, y.swapaxes(1, 2), x_gradient, self.transpose_first)
        if y_gradient is not None:
            _product(xp, x.swapaxes(1, 2), upstream, y_gradient, self.transpose_second)

    def _as_written(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return views of the inputs of shapes (batch, n, m) and (batch, m, p)."""
        return x.swapaxes(1, 2) if self.transpose_first else x, y.swapaxes(1, 2) if self.transpose_second else y


def _product(xp: Namespace, left: Array, right: Array, out: Array, transposed: bool) -> None:
    """Write `left right`, or its transpose, into `out`."""
    if transposed:
        xp.matmul(right.swapaxes(1, 2), left.swapaxes(1, 2), out=out)
    else:
        xp.matmul(left, right, out=out)
