"""A learnt offset."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Layer, ParameterDeclaration, Workspace
from core.initializers.base import Initializer
from core.initializers.zeros import Zeros
from core.registry import hyperparameter


class Bias(Layer):
    """`x + b`, b being learnt: x (batch, ...), b of the shape of one sample. No penalty counts b.

    The gradient of x is `upstream`, that of b its sum over samples.
    """

    type: ClassVar[str] = "bias"

    bias: Initializer = hyperparameter(default=Zeros(), doc="How the offsets start.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if len(shapes[0]) < 2:
            raise ValueError(f"bias needs an input of shape (batch, features, ...), not {shapes[0]}")
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the bias."""
        return (ParameterDeclaration("bias", shapes[0][1:], self.bias, penalized=False),)

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `x + b`."""
        xp.add(*inputs, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream` and its sum over samples."""
        x_gradient, bias_gradient = gradients
        if x_gradient is not None:
            xp.copyto(x_gradient, upstream)
        if bias_gradient is not None:
            xp.sum(upstream, axis=0, out=bias_gradient)
