"""Soft shrinkage."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise
from core.registry import hyperparameter


class Softshrink(Elementwise):
    """`x - min(max(x, -threshold), threshold)`, elementwise. The derivative is 1 where |x| > threshold and 0 elsewhere.

    Source: Donoho, "De-noising by soft-thresholding", IEEE Transactions on Information Theory 41, 1995.
    """

    type: ClassVar[str] = "softshrink"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    threshold: float = hyperparameter(default=0.5, doc="Inputs up to this absolute value are mapped to 0.", ge=0)

    def kinks(self) -> tuple[float, ...]:
        return (-self.threshold, self.threshold)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        xp.maximum(x, -self.threshold, out=output)
        xp.minimum(output, self.threshold, out=output)
        xp.subtract(x, output, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.sign(y, out=slope)
        xp.abs(slope, out=slope)
