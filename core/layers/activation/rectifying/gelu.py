"""The Gaussian error linear unit, tanh approximation."""

from math import pi, sqrt
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.kernels.logistic import write_logistic
from core.layers.base import Elementwise

_A = 0.044715
_C = 2 * sqrt(2 / pi)
_FAR = 32  # beyond it, `s (1 - s)` is 0 also in float64


class GELU(Elementwise):
    """`x (1 + tanh(c (x + a x³))) / 2`, elementwise, with `c = sqrt(2 / pi)` and `a = 0.044715`.

    This is the usual approximation of `x Phi(x)`, where Phi is the cumulative distribution function of the standard
    normal distribution. The error is less than 0.0005. PyTorch calls it `approximate="tanh"`. It is computed as `x s`
    with `s = 1 / (1 + exp(-2 c (x + a x³)))`, which keeps the digits of small values. The derivative is
    `s + s (1 - s) 2 c (x + 3 a x³)`.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """

    type: ClassVar[str] = "gelu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"sigmoid": (shapes[0], "float"), "inner": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        inner = xp.square(x, out=workspace["inner"])
        xp.multiply(inner, _C * _A, out=inner)
        xp.add(inner, _C, out=inner)
        xp.multiply(inner, x, out=inner)
        sigmoid = write_logistic(xp, inner, workspace["sigmoid"])
        xp.multiply(x, sigmoid, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        sigmoid, inner = workspace["sigmoid"], workspace["inner"]
        near = xp.clip(x, -_FAR, _FAR, out=slope)  # its cube does not overflow
        xp.square(near, out=inner)
        xp.multiply(inner, 3 * _A * _C, out=inner)
        xp.add(inner, _C, out=inner)
        xp.multiply(inner, near, out=inner)
        xp.multiply(inner, sigmoid, out=inner)
        xp.subtract(1, sigmoid, out=slope)
        xp.multiply(slope, inner, out=slope)
        xp.add(slope, sigmoid, out=slope)
