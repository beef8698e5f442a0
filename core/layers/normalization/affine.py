"""The parts that batch and layer normalization share: `scale n + shift`, where n has mean 0 and deviation 1."""

from core.arrays import Array, Namespace, Shape
from core.graph.node import ParameterDeclaration
from core.initializers.constant import ConstantInitializer
from core.initializers.zeros import Zeros


def affine_parameters(features: Shape) -> tuple[ParameterDeclaration, ...]:
    """Return the declarations of scale and shift, of shape `features`."""
    return (
        ParameterDeclaration("scale", features, ConstantInitializer(value=1.0), penalized=False),
        ParameterDeclaration("shift", features, Zeros(), penalized=False),
    )


def invert_deviation(xp: Namespace, variance: Array, epsilon: float, out: Array) -> Array:
    """Write `1 / sqrt(variance + epsilon)` into `out`, which may be `variance`, and return it."""
    xp.add(variance, epsilon, out=out)
    xp.sqrt(out, out=out)
    xp.reciprocal(out, out=out)
    return out


def write_affine(xp: Namespace, normal: Array, inverse: Array, scale: Array, shift: Array, out: Array) -> None:
    """Multiply `normal` by `inverse` in place, and write `scale normal + shift` into `out`."""
    xp.multiply(normal, inverse, out=normal)
    xp.multiply(normal, scale, out=out)
    xp.add(out, shift, out=out)


def write_affine_gradients(
    xp: Namespace,
    upstream: Array,
    normal: Array,
    product: Array,
    scale_gradient: Array | None,
    shift_gradient: Array | None,
) -> None:
    """Write the gradients of scale and shift, where not None.

    They are the sums of `upstream normal` and of `upstream` over all axes but the last. `product` is scratch of the
    shape of `normal`.
    """
    samples = tuple(range(normal.ndim - 1))
    if scale_gradient is not None:
        xp.multiply(upstream, normal, out=product)
        xp.sum(product, axis=samples, out=scale_gradient)
    if shift_gradient is not None:
        xp.sum(upstream, axis=samples, out=shift_gradient)
