"""A learnable bias."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, ParameterDeclaration, Workspace
from core.initializers.base import Initializer
from core.initializers.zeros import Zeros
from core.layers.base import Featurewise
from core.registry import hyperparameter


class Bias(Featurewise):
    """`x + b` with a learnable b: x (batch, ...) with two or more axes, b of the shape of one sample.

    Penalties do not apply to b. The gradient of x is the upstream gradient, and the gradient of b is its sum over the
    batch axis.
    """

    type: ClassVar[str] = "bias"

    bias: Initializer = hyperparameter(default=Zeros(), doc="Initializer of the biases.")

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the bias."""
        return (ParameterDeclaration("bias", shapes[0][1:], self.bias, penalized=False),)

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        xp.add(*inputs, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x_gradient, bias_gradient = gradients
        if x_gradient is not None:
            xp.copyto(x_gradient, upstream)
        if bias_gradient is not None:
            xp.sum(upstream, axis=0, out=bias_gradient)
