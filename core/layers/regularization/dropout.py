"""Dropout."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Elementwise, Layer, Node, Workspace, WorkspaceDeclaration
from core.layers.shape.identity import Identity
from core.registry import hyperparameter


class Dropout(Elementwise, Layer):
    """Each number is set to 0 with probability `rate`, and the others are multiplied by `1 / (1 - rate)`.

    The derivative is that factor, or 0. The choice depends on the job's seed, the epoch, the step, the shard and the
    node's name, and is the same in float32 and float64. In evaluation the layer is the identity.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014, with
    the factor moved from evaluation to training.
    """

    type: ClassVar[str] = "dropout"

    rate: float = hyperparameter(default=0.5, doc="The probability with which a number is dropped.", ge=0, lt=1)

    def evaluation(self) -> Node:
        """Return the identity."""
        return Identity()

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return the noise that decides, and the factors."""
        return {"noise": (shapes[0], "noise"), "factor": (shapes[0], "float")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        """Write x times the factors, and keep these."""
        factor = workspace["factor"]
        xp.greater_equal(workspace["noise"], self.rate, out=factor)
        xp.multiply(factor, 1 / (1 - self.rate), out=factor)
        xp.multiply(x, factor, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        """Copy the factors."""
        xp.copyto(slope, workspace["factor"])
