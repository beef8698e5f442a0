"""The parametric rectified linear unit."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, ParameterDeclaration, Workspace, WorkspaceDeclaration, sides
from core.initializers.base import Initializer
from core.initializers.constant import ConstantInitializer
from core.layers.base import Featurewise
from core.registry import hyperparameter


class PReLU(Featurewise):
    """`max(x, 0) + a min(x, 0)` with a learnable slope a: x (batch, ..., features), a (features,).

    Penalties do not apply to a. The derivative with respect to x is 1 where x > 0 and a elsewhere, including at 0. The
    derivative with respect to a is `min(x, 0)`, summed over all axes but the last.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, with one slope for each feature.
    """

    type: ClassVar[str] = "prelu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    slope: Initializer = hyperparameter(default=ConstantInitializer(value=0.25), doc="Initializer of the slopes.")

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the slopes."""
        return (ParameterDeclaration("slope", shapes[0][-1:], self.slope, penalized=False),)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"negative": (shapes[0], "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        # The sum of the positive part and the negative part, one of which is 0.
        x, slope = inputs
        negative = xp.minimum(x, 0, out=workspace["negative"])
        xp.multiply(negative, slope, out=negative)
        xp.maximum(x, 0, out=output)
        xp.add(output, negative, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x, slope = inputs
        x_gradient, slope_gradient = gradients
        negative = workspace["negative"]
        if x_gradient is not None:
            xp.less_equal(x, 0, out=x_gradient)
            xp.multiply(x_gradient, slope, out=negative)
            xp.subtract(1, x_gradient, out=x_gradient)
            xp.add(x_gradient, negative, out=x_gradient)
            xp.multiply(x_gradient, upstream, out=x_gradient)
        if slope_gradient is not None:
            xp.minimum(x, 0, out=negative)
            xp.multiply(negative, upstream, out=negative)
            xp.sum(negative, axis=tuple(range(x.ndim - 1)), out=slope_gradient)

    def branches(self, xp: Namespace, inputs: Inputs) -> Array | None:
        return sides(xp, inputs[0], (0,))
