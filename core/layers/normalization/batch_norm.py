"""Batch normalization."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Node, ParameterDeclaration
from core.initializers.constant import ConstantInitializer
from core.initializers.zeros import Zeros
from core.layers.base import Featurewise
from core.layers.normalization.affine import affine_parameters, invert_deviation, write_affine, write_affine_gradients
from core.registry import hyperparameter

if TYPE_CHECKING:
    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration


class BatchNorm(Featurewise):
    """`scale n + shift`, where n is x minus its mean, divided by its standard deviation, over all axes but the last.

    x (batch, ..., features); learnable scale and shift (features,), to which penalties do not apply.

    In training, `n = (x - m) / sqrt(v + epsilon)` with the mean m and the variance v (divided by the count) of one
    shard of the batch, so that the result does not depend on the number of workers. The gradient of x is
    `scale (u - mean(u) - n mean(u n)) / sqrt(v + epsilon)`, where u is the upstream gradient. The gradient of scale is
    the sum of `u n`, and the gradient of shift is the sum of u.

    In evaluation, m and v are running averages of the means and variances of the shards, stored as parameters that are
    not trained (see `core.plan.statistics`). PyTorch's running variance divides by the count minus one instead.

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015; per shard: Hoffer et al., "Train longer, generalize
    better", NIPS 2017.
    """

    type: ClassVar[str] = "batch_norm"

    momentum: float = hyperparameter(default=0.1, doc="Weight of the newest batch in the averages.", gt=0, le=1)
    epsilon: float = hyperparameter(default=1e-5, doc="Added to the variance, to avoid a division by 0.", ge=1e-30)

    def evaluation(self) -> Node:
        return PopulationNorm(self)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return scale and shift; the running mean and variance are parameters that are not trained."""
        features = shapes[0][-1:]
        one, momentum = ConstantInitializer(value=1.0), self.momentum
        return (
            *affine_parameters(features),
            ParameterDeclaration("mean", features, Zeros(), penalized=False, momentum=momentum),
            ParameterDeclaration("variance", features, one, penalized=False, momentum=momentum),
        )

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        row = x[-1:]
        return {
            "normal": (x, "float"),
            "mean": (row, "float"),
            "variance": (row, "float"),
            "inverse": (row, "float"),
            "product": (x, "scratch"),
            "row": (row, "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        x, scale, shift, _, _ = inputs
        normal, mean, variance = workspace["normal"], workspace["mean"], workspace["variance"]
        axes, count = _axes_and_count(x)
        xp.sum(x, axis=axes, out=mean)
        xp.divide(mean, count, out=mean)
        xp.subtract(x, mean, out=normal)
        xp.square(normal, out=output)
        xp.sum(output, axis=axes, out=variance)
        xp.divide(variance, count, out=variance)
        inverse = invert_deviation(xp, variance, self.epsilon, workspace["inverse"])
        write_affine(xp, normal, inverse, scale, shift, output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x_gradient, scale_gradient, shift_gradient, *statistics = gradients
        normal, product, row = workspace["normal"], workspace["product"], workspace["row"]
        axes, count = _axes_and_count(normal)
        write_affine_gradients(xp, upstream, normal, product, scale_gradient, shift_gradient)
        if x_gradient is not None:
            xp.multiply(upstream, normal, out=product)
            xp.sum(product, axis=axes, out=row)
            xp.divide(row, count, out=row)
            xp.multiply(normal, row, out=product)
            xp.sum(upstream, axis=axes, out=row)
            xp.divide(row, count, out=row)
            xp.subtract(upstream, row, out=x_gradient)
            xp.subtract(x_gradient, product, out=x_gradient)
            xp.multiply(workspace["inverse"], inputs[1], out=row)
            xp.multiply(x_gradient, row, out=x_gradient)
        # The gradients of the running averages carry the statistics of the batch; see `core.plan.statistics`.
        for gradient, name in zip(statistics, ("mean", "variance"), strict=True):
            if gradient is not None:
                xp.multiply(workspace[name], normal.shape[0], out=gradient)


class PopulationNorm(Node):
    """Batch normalization in evaluation: m and v are the running averages, so rows do not depend on each other."""

    def __init__(self, layer: BatchNorm) -> None:
        self._layer = layer

    def infer(self, *shapes: Shape) -> Shape:
        return self._layer.infer(*shapes)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        return self._layer.parameters(*shapes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        (x,) = shapes
        return {
            "normal": (x, "float"),
            "inverse": (x[-1:], "float"),
            "product": (x, "scratch"),
            "row": (x[-1:], "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        x, scale, shift, mean, variance = inputs
        normal = xp.subtract(x, mean, out=workspace["normal"])
        inverse = invert_deviation(xp, variance, self._layer.epsilon, workspace["inverse"])
        write_affine(xp, normal, inverse, scale, shift, output)

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x_gradient, scale_gradient, shift_gradient, *statistics = gradients
        normal, product = workspace["normal"], workspace["product"]
        write_affine_gradients(xp, upstream, normal, product, scale_gradient, shift_gradient)
        if x_gradient is not None:
            xp.multiply(workspace["inverse"], inputs[1], out=workspace["row"])
            xp.multiply(upstream, workspace["row"], out=x_gradient)
        for gradient in statistics:
            if gradient is not None:
                gradient.fill(0)


def _axes_and_count(x: Array) -> tuple[tuple[int, ...], int]:
    """Return the axes to average over, and the number of elements, at least 1 so that the mean of no rows is 0."""
    return tuple(range(x.ndim - 1)), max(prod(x.shape[:-1]), 1)
