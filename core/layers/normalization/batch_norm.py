"""Batch normalization."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Layer, Node, ParameterDeclaration
from core.initializers.constant import ConstantInitializer
from core.initializers.zeros import Zeros
from core.layers.normalization.deviation import invert_deviation, write_affine_gradients
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Workspace, WorkspaceDeclaration


class BatchNorm(Layer):
    """`scale n + shift`, n being x less its mean, divided by its standard deviation, over all axes but the last.

    x (batch, ..., features); scale and shift (features,), learnt; no penalty counts them. In training, m and v are the
    mean and the variance (divided by the count) of the rows at hand, one shard of a batch, so that the result does not
    depend on workers: `n = (x - m) / sqrt(v + epsilon)`. With u = upstream the gradient of x is
    `scale (u - mean(u) - n mean(u n)) / sqrt(v + epsilon)`; that of scale is the sum of `u n`, and that of shift the
    sum of u. In evaluation, m and v are running averages of the shards' means and variances, kept as parameters that
    are not learnt (see `core.plan.statistics`); PyTorch's running variance divides by the count less one instead.

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015; per shard: Hoffer et al., "Train longer, generalize
    better", NIPS 2017.
    """

    type: ClassVar[str] = "batch_norm"

    momentum: float = hyperparameter(default=0.1, doc="The newest batch's weight in the running averages.", gt=0, le=1)
    epsilon: float = hyperparameter(default=1e-5, doc="Added to the variance, against a division by 0.", gt=0)

    def evaluation(self) -> Node:
        """Return the normalization by running averages."""
        return PopulationNorm(self)

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        if len(shapes[0]) < 2:
            raise ValueError(f"batch_norm needs an input of shape (batch, ..., features), not {shapes[0]}")
        return shapes[0]

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return scale, shift, and the running mean and variance."""
        features = shapes[0][-1:]
        one = ConstantInitializer(value=1.0)
        return (
            ParameterDeclaration("scale", features, one, penalized=False),
            ParameterDeclaration("shift", features, Zeros(), penalized=False),
            ParameterDeclaration("mean", features, Zeros(), penalized=False, momentum=self.momentum),
            ParameterDeclaration("variance", features, one, penalized=False, momentum=self.momentum),
        )

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return n, mean, variance and inverse standard deviation, and room for products and their means."""
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

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the normalized numbers, scaled and shifted."""
        x, scale, shift, _, _ = inputs
        normal, mean, variance = workspace["normal"], workspace["mean"], workspace["variance"]
        axes, count = _rows(x)
        xp.sum(x, axis=axes, out=mean)
        xp.divide(mean, count, out=mean)
        xp.subtract(x, mean, out=normal)
        xp.square(normal, out=output)
        xp.sum(output, axis=axes, out=variance)
        xp.divide(variance, count, out=variance)
        inverse = invert_deviation(xp, variance, self.epsilon, workspace["inverse"])
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
        """Write the gradients of the formulas above, and for the running averages what `core.plan.statistics` says."""
        x_gradient, scale_gradient, shift_gradient, mean_slot, variance_slot = gradients
        normal, product, row = workspace["normal"], workspace["product"], workspace["row"]
        axes, count = _rows(normal)
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
        for slot, statistic in ((mean_slot, "mean"), (variance_slot, "variance")):
            if slot is not None:
                xp.multiply(workspace[statistic], normal.shape[0], out=slot)


class PopulationNorm(Node):
    """Batch normalization in evaluation: m and v are the running averages, each row is normalized by itself."""

    def __init__(self, layer: BatchNorm) -> None:
        self._layer = layer

    def infer(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return self._layer.infer(*shapes)

    def parameters(self, *shapes: Shape) -> tuple[ParameterDeclaration, ...]:
        """Return the layer's."""
        return self._layer.parameters(*shapes)

    def workspace(self, *shapes: Shape) -> WorkspaceDeclaration:
        """Return n and the inverse standard deviation, and room for products and for a number per feature."""
        (x,) = shapes
        return {
            "normal": (x, "float"),
            "inverse": (x[-1:], "float"),
            "product": (x, "scratch"),
            "row": (x[-1:], "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Sequence[Array], output: Array, workspace: Workspace) -> None:
        """Write the normalized numbers, scaled and shifted."""
        x, scale, shift, mean, variance = inputs
        normal = xp.subtract(x, mean, out=workspace["normal"])
        inverse = invert_deviation(xp, variance, self._layer.epsilon, workspace["inverse"])
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
        """Write the gradients; the running averages, which are not learnt, have none."""
        x_gradient, scale_gradient, shift_gradient, *statistics = gradients
        normal, product = workspace["normal"], workspace["product"]
        write_affine_gradients(xp, upstream, normal, product, scale_gradient, shift_gradient)
        if x_gradient is not None:
            xp.multiply(workspace["inverse"], inputs[1], out=workspace["row"])
            xp.multiply(upstream, workspace["row"], out=x_gradient)
        for gradient in statistics:
            if gradient is not None:
                gradient.fill(0)


def _rows(x: Array) -> tuple[tuple[int, ...], int]:
    """Return the axes that statistics are over, and the count of numbers, at least 1: no rows have mean 0."""
    return tuple(range(x.ndim - 1)), max(prod(x.shape[:-1]), 1)
