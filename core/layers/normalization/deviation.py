"""What batch and layer normalization have in common: n scaled and shifted, n having mean 0 and deviation 1."""

from core.arrays import Array, Namespace


def invert_deviation(xp: Namespace, variance: Array, epsilon: float, out: Array) -> Array:
    """Write `1 / sqrt(variance + epsilon)` into `out`, which may be `variance`, and return it."""
    xp.add(variance, epsilon, out=out)
    xp.sqrt(out, out=out)
    xp.reciprocal(out, out=out)
    return out


def write_affine_gradients(
    xp: Namespace,
    upstream: Array,
    normal: Array,
    product: Array,
    scale_gradient: Array | None,
    shift_gradient: Array | None,
) -> None:
    """Write the gradients of `scale n + shift`: the sums over all axes but the last of `upstream n` and `upstream`.

    `product` is scratch of n's shape; a gradient that is None is not asked for.
    """
    samples = tuple(range(normal.ndim - 1))
    if scale_gradient is not None:
        xp.multiply(upstream, normal, out=product)
        xp.sum(product, axis=samples, out=scale_gradient)
    if shift_gradient is not None:
        xp.sum(upstream, axis=samples, out=shift_gradient)
