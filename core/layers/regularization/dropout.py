"""Dropout."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Node, Workspace, WorkspaceDeclaration
from core.layers.base import Elementwise
from core.layers.shape.identity import Identity
from core.registry import hyperparameter


class Dropout(Elementwise):
    """Sets each element to 0 with probability `rate`, and multiplies the others by `1 / (1 - rate)`.

    The derivative is this factor, or 0. Which elements are dropped depends on the job's seed, the epoch, the step, the
    shard and the name of the node, and is the same in float32 and float64. In evaluation, the layer is the identity.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014, with
    the factor applied in training instead of in evaluation.
    """

    type: ClassVar[str] = "dropout"

    rate: float = hyperparameter(default=0.5, doc="The probability that an element is dropped.", ge=0, lt=1)

    def evaluation(self) -> Node:
        return Identity()

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"noise": (shapes[0], "noise"), "factor": (shapes[0], "float")}

    def function(self, xp: Namespace, x: Array, output: Array, workspace: Workspace) -> None:
        factor = workspace["factor"]
        xp.greater_equal(workspace["noise"], self.rate, out=factor)
        xp.multiply(factor, 1 / (1 - self.rate), out=factor)
        xp.multiply(x, factor, out=output)

    def derivative(self, xp: Namespace, x: Array, y: Array, slope: Array, workspace: Workspace) -> None:
        xp.copyto(slope, workspace["factor"])
