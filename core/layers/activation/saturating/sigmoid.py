"""The logistic function."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.kernels.logistic import write_logistic
from core.layers.base import Elementwise


class Sigmoid(Elementwise):
    """`1 / (1 + exp(-x))`, elementwise.

    The derivative is `y (1 - y)`, where y is the output. Source: the lecture.
    """

    type: ClassVar[str] = "sigmoid"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        write_logistic(xp, x, output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.subtract(1, y, out=slope)
        xp.multiply(slope, y, out=slope)
