"""The sum with a constant."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Workspace
from core.layers.base import Elementwise
from core.registry import hyperparameter


class Shift(Elementwise):
    """`x + offset`, elementwise. The derivative is 1."""

    type: ClassVar[str] = "shift"

    offset: float = hyperparameter(doc="The constant to add.")

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.add(x, self.offset, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        slope.fill(1)
