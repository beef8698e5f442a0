"""A learnable factor."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, Kept, ParameterDeclaration, Workspace, WorkspaceDeclaration
from core.initializers.base import Initializer
from core.initializers.constant import ConstantInitializer
from core.layers.base import Featurewise
from core.layers.connection.spread import Spread, learnt_shape, sum_over_copies
from core.registry import hyperparameter


class Gain(Featurewise):
    """`x g` with a learnable g, elementwise: x (batch, ...) with two or more axes.

    Penalties do not apply to g. The gradient of x is `u g`, where u is the upstream gradient, and the gradient of a
    number in g is the sum of `u x` over the elements that it multiplies.

    It is Torch's `CMul` with one factor per element and `Mul` with one per layer, and Caffe's `Scale` with one per
    feature, which is a channel of an image.
    """

    type: ClassVar[str] = "gain"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    per: Spread = hyperparameter(
        default="feature", doc="One factor for each element of a sample, for each index of the last axis, or for all."
    )
    gain: Initializer = hyperparameter(default=ConstantInitializer(value=1.0), doc="Initializer of the factors.")

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the factors."""
        return (ParameterDeclaration("gain", learnt_shape(self.per, shapes[0]), self.gain, penalized=False),)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        return {"product": (shapes[0], "scratch")}

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        xp.multiply(*inputs, out=output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        (x, gain), (x_gradient, gain_gradient) = inputs, gradients
        if x_gradient is not None:
            xp.multiply(upstream, gain, out=x_gradient)
        if gain_gradient is not None:
            product = xp.multiply(upstream, x, out=workspace["product"])
            sum_over_copies(xp, self.per, product, gain_gradient)
