"""The fully connected layer."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.initializers import Initializer
from core.initializers.he import He
from core.initializers.zeros import Zeros
from core.node import Kept, Layer, ParameterDeclaration, Workspace
from core.registry import hyperparameter


class Linear(Layer):
    """`x W + b`: (batch, features) to (batch, units); weight (features, units), bias (units,)."""

    type: ClassVar[str] = "linear"
    retains: ClassVar[frozenset[Kept]] = frozenset({"inputs"})

    units: int = hyperparameter(doc="Number of outputs.", ge=1)
    weight: Initializer = hyperparameter(default=He(), doc="How the weights start.")
    bias: Initializer = hyperparameter(default=Zeros(), doc="How the biases start. No penalty counts them.")

    def infer(self, *shapes: Shape) -> Shape:
        """Return (batch, units)."""
        (x,) = shapes
        if len(x) != 2:
            raise ValueError(f"linear needs an input of shape (batch, features), not {x}")
        return (x[0], self.units)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return weight and bias."""
        features = shapes[0][1]
        return (
            ParameterDeclaration("weight", (features, self.units), self.weight, penalized=True),
            ParameterDeclaration("bias", (self.units,), self.bias, penalized=False),
        )

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write `x W + b`."""
        x, weight, bias = inputs
        xp.matmul(x, weight, out=output)
        xp.add(output, bias, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write `upstream Wᵀ`, `xᵀ upstream` and the sum of `upstream` over samples."""
        x, weight, _ = inputs
        x_gradient, weight_gradient, bias_gradient = gradients
        if x_gradient is not None:
            xp.matmul(upstream, weight.T, out=x_gradient)
        if weight_gradient is not None:
            xp.matmul(x.T, upstream, out=weight_gradient)
        if bias_gradient is not None:
            xp.sum(upstream, axis=0, out=bias_gradient)
