"""Layer normalization."""

from typing import ClassVar

from core.arrays import Array, Namespace, Shape
from core.graph.node import Gradients, Inputs, ParameterDeclaration, Workspace, WorkspaceDeclaration
from core.layers.base import Featurewise
from core.layers.normalization.affine import affine_parameters, invert_deviation, write_affine, write_affine_gradients
from core.registry import hyperparameter


class LayerNorm(Featurewise):
    """`scale n + shift`, where n is x minus its mean, divided by its standard deviation, along the last axis.

    x (batch, ..., features); learnable scale and shift (features,), to which penalties do not apply.

    `n = (x - m) / sqrt(v + epsilon)` with the mean m and the variance v (divided by the number of features) of a row.
    The gradient of x is `(g - mean(g) - n mean(g n)) / sqrt(v + epsilon)`, where `g = u scale` and u is the upstream
    gradient. The gradient of scale is the sum of `u n`, and the gradient of shift is the sum of u.

    Source: Ba et al., "Layer normalization", 2016.
    """

    type: ClassVar[str] = "layer_norm"

    epsilon: float = hyperparameter(default=1e-5, doc="Added to the variance, to avoid a division by 0.", ge=1e-30)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return scale and shift."""
        return affine_parameters(shapes[0][-1:])

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        row = (*x[:-1], 1)
        return {
            "normal": (x, "float"),
            "inverse": (row, "float"),
            "product": (x, "scratch"),
            "row": (row, "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
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
        write_affine(xp, normal, inverse, scale, shift, output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
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
