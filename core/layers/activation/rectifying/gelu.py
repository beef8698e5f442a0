"""The Gaussian error linear unit, tanh approximation."""

from math import pi, sqrt
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.layers.base import Elementwise

_A = 0.044715
_C = sqrt(2 / pi)


class GELU(Elementwise):
    """`x (1 + tanh(c (x + a x³))) / 2`, elementwise, with `c = sqrt(2 / pi)` and `a = 0.044715`.

    This is the usual approximation of `x Phi(x)`, where Phi is the cumulative distribution function of the standard
    normal distribution. The error is less than 0.0005. PyTorch calls it `approximate="tanh"`. The derivative is
    `(1 + t) / 2 + x (1 - t²) c (1 + 3 a x²) / 2`, where t is the tanh.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """

    type: ClassVar[str] = "gelu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"tanh": (shapes[0], "float"), "inner": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        tanh = xp.square(x, out=workspace["tanh"])
        xp.multiply(tanh, _C * _A, out=tanh)
        xp.add(tanh, _C, out=tanh)
        xp.multiply(tanh, x, out=tanh)
        xp.tanh(tanh, out=tanh)
        xp.add(tanh, 1, out=output)
        xp.multiply(output, x, out=output)
        xp.multiply(output, 0.5, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        tanh, inner = workspace["tanh"], workspace["inner"]
        xp.square(x, out=inner)
        xp.multiply(inner, 3 * _A * _C, out=inner)
        xp.add(inner, _C, out=inner)
        xp.multiply(inner, x, out=inner)
        xp.square(tanh, out=slope)
        xp.subtract(1, slope, out=slope)
        xp.multiply(slope, inner, out=slope)
        xp.add(slope, tanh, out=slope)
        xp.add(slope, 1, out=slope)
        xp.multiply(slope, 0.5, out=slope)
