"""A learnable bias."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, ParameterDeclaration, Workspace
from core.initializers.base import Initializer
from core.initializers.zeros import Zeros
from core.layers.base import Featurewise
from core.layers.connection.spread import Spread, learnt_shape, sum_over_copies
from core.registry import hyperparameter


class Bias(Featurewise):
    """`x + b` with a learnable b: x (batch, ...) with two or more axes, b by default of the shape of one sample.

    Penalties do not apply to b. The gradient of x is the upstream gradient, and the gradient of a number in b is its
    sum over the elements to which it is added.
    """

    type: ClassVar[str] = "bias"

    per: Spread = hyperparameter(
        default="element", doc="One bias for each element of a sample, for each index of the last axis, or for all."
    )
    bias: Initializer = hyperparameter(default=Zeros(), doc="Initializer of the biases.")

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the bias."""
        return (ParameterDeclaration("bias", learnt_shape(self.per, shapes[0]), self.bias, penalized=False),)

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        xp.add(*inputs, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x_gradient, bias_gradient = gradients
        if x_gradient is not None:
            xp.copyto(x_gradient, upstream)
        if bias_gradient is not None:
            sum_over_copies(xp, self.per, upstream, bias_gradient)
