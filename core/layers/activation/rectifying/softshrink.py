"""Soft shrinkage."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace
from core.registry import hyperparameter


class Softshrink(Elementwise, Layer):
    """`x - min(max(x, -threshold), threshold)`, elementwise. The derivative is 1 where |x| > threshold and 0 elsewhere.

    Source: Donoho, "De-noising by soft-thresholding", IEEE Transactions on Information Theory 41, 1995.
    """

    type: ClassVar[str] = "softshrink"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    threshold: float = hyperparameter(default=0.5, doc="How far from 0 the input counts as 0.", ge=0)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write what of x is beyond the threshold."""
        xp.maximum(x, -self.threshold, out=output)
        xp.minimum(output, self.threshold, out=output)
        xp.subtract(x, output, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write 1 where y is not 0, and 0 elsewhere."""
        xp.sign(y, out=slope)
        xp.abs(slope, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return on which of three pieces the input is."""
        piece: Array = xp.sign(inputs[0] + self.threshold) + xp.sign(inputs[0] - self.threshold)
        return piece
