"""Layer normalization."""

from collections.abc import Sequence
from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Layer, ParameterDeclaration, Workspace, WorkspaceDeclaration
from core.initializers.constant import ConstantInitializer
from core.initializers.zeros import Zeros
from core.layers.normalization.deviation import invert_deviation, write_affine_gradients
from core.registry import hyperparameter


class LayerNorm(Layer):
    """`scale n + shift`, n being x less its mean, divided by its standard deviation, along the last axis.

    x (batch, ..., features); scale and shift (features,), learnt; no penalty counts them. With m and v the mean and the
    variance (divided by the number of features) of a row, `n = (x - m) / sqrt(v + epsilon)`. With u = upstream and
    g = u scale the gradient of x is `(g - mean(g) - n mean(g n)) / sqrt(v + epsilon)`; that of scale is the sum of
    `u n`, and that of shift the sum of u.

    Source: Ba et al., "Layer normalization", 2016.
    """

    type: ClassVar[str] = "layer_norm"

    epsilon: float = hyperparameter(default=1e-5, doc="Added to the variance, against a division by 0.", gt=0)

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if len(shapes[0]) < 2:
            raise ValueError(f"layer_norm needs an input of shape (batch, ..., features), not {shapes[0]}")
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return scale and shift."""
        features = shapes[0][-1:]
        return (
            ParameterDeclaration("scale", features, ConstantInitializer(value=1.0), penalized=False),
            ParameterDeclaration("shift", features, Zeros(), penalized=False),
        )

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return n and the inverse standard deviations, and room for products and for a number per row."""
        (x,) = shapes
        row = (*x[:-1], 1)
        return {
            "normal": (x, "float"),
            "inverse": (row, "float"),
            "product": (x, "scratch"),
            "row": (row, "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the normalized numbers, scaled and shifted."""
        x, scale, shift = inputs
        normal, inverse, row = workspace["normal"], workspace["inverse"], workspace["row"]
        features = x.shape[-1]
        xp.sum(x, axis=-1, keepdims=True, out=row)
        xp.divide(row, features, out=row)
        xp.subtract(x, row, out=normal)
        xp.square(normal, out=output)
        xp.sum(output, axis=-1, keepdims=True, out=inverse)
        xp.divide(inverse, features, out=inverse)
        invert_deviation(xp, inverse, self.epsilon, out=inverse)
        xp.multiply(normal, inverse, out=normal)
        xp.multiply(normal, scale, out=output)
        xp.add(output, shift, out=output)

    def backward(
        self,
        xp: Namespace,
        upstream: Array,
        inputs: Sequence[Array],
        output: Array,
        workspace: Workspace,
        gradients: Sequence[Array | None],
    ) -> None:
        """Write the gradients of the three formulas above."""
        _, scale, _ = inputs
        x_gradient, scale_gradient, shift_gradient = gradients
        normal, product, row = workspace["normal"], workspace["product"], workspace["row"]
        features = normal.shape[-1]
        write_affine_gradients(xp, upstream, normal, product, scale_gradient, shift_gradient)
        if x_gradient is not None:
            xp.multiply(upstream, scale, out=x_gradient)
            xp.multiply(x_gradient, normal, out=product)
            xp.sum(product, axis=-1, keepdims=True, out=row)
            xp.divide(row, features, out=row)
            xp.multiply(normal, row, out=product)
            xp.sum(x_gradient, axis=-1, keepdims=True, out=row)
            xp.divide(row, features, out=row)
            xp.subtract(x_gradient, row, out=x_gradient)
            xp.subtract(x_gradient, product, out=x_gradient)
            xp.multiply(x_gradient, workspace["inverse"], out=x_gradient)
