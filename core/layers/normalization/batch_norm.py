"""Batch normalization."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from core.graph.node import Node, ParameterDeclaration
from core.initializers.constant import ConstantInitializer
from core.initializers.zeros import Zeros
from core.kernels.fused import run_compiled
from core.layers.base import Featurewise
from core.layers.normalization.affine import affine_parameters, invert_deviation, write_affine, write_affine_gradients
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.arrays import Array, Namespace, Shape
    from core.graph.node import Gradients, Inputs, Workspace, WorkspaceDeclaration

# Numbers of a part: with the results, they fit into the level-two cache.
BLOCK = 32_768

# Elements from which the compiled loops are used: there are three to compile.
SHORTEST = 262_144


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
            "rows": ((2, *row), "scratch"),
            "lines": ((3, _line(x), *row), "scratch"),
        }

    def forward(self, xp: Namespace, inputs: Inputs, output: Array, workspace: Workspace) -> None:
        x, scale, shift, _, _ = inputs
        mean, variance, lines = workspace["mean"], workspace["variance"], workspace["lines"]
        images, normal, out = (_by_line(each) for each in (x, workspace["normal"], output))
        _write_mean(xp, images, lines[0], mean)
        wide = _repeated(xp, mean, lines[0])
        if not run_compiled(xp, center, images, wide, normal, out, shortest=SHORTEST):
            for part in _parts(normal):
                xp.subtract(images[part], wide, out=normal[part])
                xp.square(normal[part], out=out[part])
        _write_mean(xp, out, lines[0], variance)
        inverse = invert_deviation(xp, variance, self.epsilon, workspace["inverse"])
        wides = tuple(_repeated(xp, each, line) for each, line in zip((inverse, scale, shift), lines, strict=True))
        if not run_compiled(xp, scale_and_shift, normal, wides, out, shortest=SHORTEST):
            for part in _parts(normal):
                write_affine(xp, normal[part], wides[0], wides[1], wides[2], out[part])

    def backward(
        self, xp: Namespace, upstream: Array, inputs: Inputs, output: Array, workspace: Workspace, gradients: Gradients
    ) -> None:
        x_gradient, scale_gradient, shift_gradient, *statistics = gradients
        lines, rows = workspace["lines"], workspace["rows"]
        above, normal, product = (_by_line(each) for each in (upstream, workspace["normal"], workspace["product"]))
        xp.multiply(above, normal, out=product)
        for terms, sums, gradient in zip((product, above), rows, (scale_gradient, shift_gradient), strict=True):
            _write_sum(xp, terms, lines[0], sums)
            if gradient is not None:
                xp.copyto(gradient, sums)
        if x_gradient is not None:
            xp.divide(rows, _count(normal, lines[0]), out=rows)
            wides = [_repeated(xp, row, line) for row, line in zip(rows, lines[:2], strict=True)]
            xp.multiply(workspace["inverse"], inputs[1], out=rows[0])
            wides.append(_repeated(xp, rows[0], lines[2]))
            out = _by_line(x_gradient)
            if not run_compiled(xp, write_gradient, normal, above, tuple(wides), out, shortest=SHORTEST):
                for part in _parts(normal):
                    xp.multiply(normal[part], wides[0], out=product[part])
                    xp.subtract(above[part], wides[1], out=out[part])
                    xp.subtract(out[part], product[part], out=out[part])
                    xp.multiply(out[part], wides[2], out=out[part])
        # The gradients of the running averages carry the statistics of the batch; see `core.plan.statistics`.
        for gradient, name in zip(statistics, ("mean", "variance"), strict=True):
            if gradient is not None:
                xp.multiply(workspace[name], upstream.shape[0], out=gradient)


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


def center(x: Array, mean: Array, normal: Array, squares: Array) -> None:
    """Write `x - mean` into `normal`, and its square into `squares`. All are lines, as in the other loops."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            centered = x[i, j] - mean[j]
            normal[i, j] = centered
            squares[i, j] = centered * centered


def scale_and_shift(normal: Array, vectors: tuple[Array, Array, Array], out: Array) -> None:
    """Multiply `normal` by the inverse deviation, in place, and write `scale normal + shift` into `out`."""
    inverse, scale, shift = vectors
    for i in range(normal.shape[0]):
        for j in range(normal.shape[1]):
            value = normal[i, j] * inverse[j]
            normal[i, j] = value
            out[i, j] = value * scale[j] + shift[j]


def write_gradient(normal: Array, upstream: Array, vectors: tuple[Array, Array, Array], out: Array) -> None:
    """Write the gradient of x: vectors are the means of `u n` and of `u`, and the factor."""
    product_mean, mean, factor = vectors
    for i in range(normal.shape[0]):
        for j in range(normal.shape[1]):
            out[i, j] = ((upstream[i, j] - mean[j]) - normal[i, j] * product_mean[j]) * factor[j]


def _line(x: Shape) -> int:
    """Return the number of samples in a line: pixels of images; 1 for other data."""
    return x[-2] if len(x) > 3 else 1


def _by_line(x: Array) -> Array:
    """Return x (batch, ..., features) as (lines, numbers of a line).

    NumPy is faster on long lines than on many short rows of features.
    """
    length = _line(x.shape) * x.shape[-1]
    return x.reshape(prod(x.shape) // length, length)


def _parts(lines: Array) -> Iterator[slice]:
    """Yield parts that fit into the level-two cache."""
    most = max(1, BLOCK // lines.shape[1])
    for start in range(0, len(lines), most):
        yield slice(start, min(start + most, len(lines)))


def _repeated(xp: Namespace, row: Array, line: Array) -> Array:
    """Repeat a row (features,) along a line (samples, features), and return the line as a vector."""
    xp.copyto(line, row)
    return line.reshape(-1)


def _count(lines: Array, line: Array) -> int:
    """Return the number of samples, at least 1 so that the mean of no samples is 0."""
    return max(len(lines) * len(line), 1)


def _write_sum(xp: Namespace, lines: Array, line: Array, out: Array) -> None:
    """Write the sum over all samples into `out` (features,). `line` (samples of a line, features) is scratch."""
    xp.sum(lines, axis=0, out=line.reshape(-1))
    xp.sum(line, axis=0, out=out)


def _write_mean(xp: Namespace, lines: Array, line: Array, out: Array) -> None:
    _write_sum(xp, lines, line, out)
    xp.divide(out, _count(lines, line), out=out)
