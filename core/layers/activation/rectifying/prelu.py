"""The parametric rectified linear unit."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Kept, Layer, ParameterDeclaration, Workspace, WorkspaceDeclaration
from core.initializers.base import Initializer
from core.initializers.constant import ConstantInitializer
from core.registry import hyperparameter


class PReLU(Layer):
    """`max(x, 0) + a min(x, 0)`, a being learnt: x (batch, ..., features), a (features,). No penalty counts a.

    The derivative of x is 1 where x > 0 and a elsewhere, 0 included; that of a is `min(x, 0)`, summed over all but the
    last axis.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015, with one slope for each feature.
    """

    type: ClassVar[str] = "prelu"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    slope: Initializer = hyperparameter(default=ConstantInitializer(value=0.25), doc="How the slopes start.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if len(shapes[0]) < 2:
            raise ValueError(f"prelu needs an input of shape (batch, ..., features), not {shapes[0]}")
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the slopes."""
        return (ParameterDeclaration("slope", shapes[0][-1:], self.slope, penalized=False),)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return room for what concerns the negative inputs."""
        return {"negative": (shapes[0], "scratch")}

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the sum of the positive and the negative part, one of which is 0."""
        x, slope = inputs
        negative = xp.minimum(x, 0, out=workspace["negative"])
        xp.multiply(negative, slope, out=negative)
        xp.maximum(x, 0, out=output)
        xp.add(output, negative, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` times the derivatives, summed for the slopes."""
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

    def branches(self, xp: Namespace, inputs: Sequence[Array]) -> Array:
        """Return where the input is positive."""
        positive: Array = inputs[0] > 0
        return positive
