"""A threshold."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Workspace, WorkspaceDeclaration
from core.layers.base import Elementwise
from core.registry import hyperparameter


class Threshold(Elementwise):
    """`x` where x > threshold and `value` elsewhere, elementwise. The derivative is 1 where x > threshold, else 0.

    With threshold 0 and value 0, the defaults, it is `relu`. This is Torch's `Threshold`. Caffe's layer of this name
    gives 0 or 1, and has no derivative that could be used.
    """

    type: ClassVar[str] = "threshold"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    threshold: float = hyperparameter(default=0.0, doc="Inputs up to this number are replaced.")
    value: float = hyperparameter(default=0.0, doc="What they are replaced by.")

    def kinks(self) -> tuple[float, ...]:
        return (self.threshold,)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"above": (shapes[0], "scratch")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        above = xp.greater(x, self.threshold, out=workspace["above"])
        xp.maximum(x, self.threshold, out=output)  # finite also where x is minus infinity
        xp.multiply(output, above, out=output)
        xp.subtract(1, above, out=above)
        xp.multiply(above, self.value, out=above)
        xp.add(output, above, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.greater(x, self.threshold, out=slope)
