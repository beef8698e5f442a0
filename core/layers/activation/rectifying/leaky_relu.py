"""The leaky rectified linear unit."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Elementwise, Kept, Layer, Workspace
from core.registry import hyperparameter


class LeakyReLU(Elementwise, Layer):
    """`max(x, slope x)`, elementwise. The derivative is 1 where x > 0 and `slope` elsewhere, 0 included.

    Source: the lecture, where the slope is 0.1; Maas et al., "Rectifier nonlinearities improve neural network acoustic
    models", ICML 2013.
    """

    type: ClassVar[str] = "leaky_relu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    slope: float = hyperparameter(default=0.1, doc="The derivative where the input is not positive.", ge=0, le=1)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write `max(x, slope x)`."""
        xp.multiply(x, self.slope, out=output)
        xp.maximum(output, x, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Write `max(sign(y), slope)`: the output has the input's sign, or is 0 where the slope is."""
        xp.sign(y, out=slope)
        xp.maximum(slope, self.slope, out=slope)

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return where the input is positive."""
        positive: Array = inputs[0] > 0
        return positive
