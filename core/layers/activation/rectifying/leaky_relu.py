"""The leaky rectified linear unit."""

from typing import ClassVar

from core.arrays import Array, Namespace
from core.graph.node import Kept, Workspace
from core.layers.base import Elementwise
from core.registry import hyperparameter


class LeakyReLU(Elementwise):
    """`max(x, slope x)`, elementwise. The derivative is 1 where x > 0 and `slope` elsewhere, including at 0.

    PyTorch's slope is 0.01 by default, and that of this layer is 0.1.

    Source: the lecture, where the slope is 0.1; Maas et al., "Rectifier nonlinearities improve neural network acoustic
    models", ICML 2013.
    """

    type: ClassVar[str] = "leaky_relu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"output"})

    slope: float = hyperparameter(default=0.1, doc="The derivative where the input is not positive.", ge=0, le=1)

    def kinks(self) -> tuple[float, ...]:
        return (0,)

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        if self.slope:
            xp.multiply(x, self.slope, out=output)
            xp.maximum(output, x, out=output)
        else:  # infinity times 0 is not a number
            xp.maximum(x, 0, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        # The output has the sign of the input, or is 0 if the slope is 0.
        xp.sign(y, out=slope)
        xp.maximum(slope, self.slope, out=slope)
