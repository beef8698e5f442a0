"""A power with a constant exponent."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Kept, Workspace
from core.registry import hyperparameter


class Power(Elementwise, Arithmetic):
    """`x ** exponent`, elementwise. The derivative is `exponent x ** (exponent - 1)`, and 0 for an exponent of 0.

    A negative x has powers only with whole exponents, and 0 only with exponents of 0 and more: the rest is NaN or
    infinite, as in NumPy.
    """

    type: ClassVar[str] = "power"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    exponent: float = hyperparameter(doc="The exponent.")

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `x ** exponent`."""
        xp.power(x, self.exponent, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write the derivative."""
        if self.exponent == 0:
            slope.fill(0)
        else:
            xp.power(x, self.exponent - 1, out=slope)
            xp.multiply(slope, self.exponent, out=slope)
