"""The absolute value."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Arithmetic, Elementwise, Kept, Workspace


class Abs(Elementwise, Arithmetic):
    """`|x|`, elementwise. The derivative is the sign of x, 0 at 0."""

    type: ClassVar[str] = "abs"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `|x|`."""
        xp.abs(x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write the sign of x."""
        xp.sign(x, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return where the input is positive."""
        positive: Array = inputs[0] > 0
        return positive
