"""A power with a constant exponent."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise
from core.registry import hyperparameter


class Power(Elementwise):
    """`x ** exponent`, elementwise. The derivative is `exponent x ** (exponent - 1)`, and 0 for an exponent of 0.

    As in NumPy, a negative x with a fractional exponent gives NaN, and 0 with a negative exponent is infinite.
    """

    type: ClassVar[str] = "power"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    exponent: float = hyperparameter(doc="The exponent.", ge=-100, le=100)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.power(x, self.exponent, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        if self.exponent == 0:
            slope.fill(0)
        else:
            xp.power(x, self.exponent - 1, out=slope)
            xp.multiply(slope, self.exponent, out=slope)
