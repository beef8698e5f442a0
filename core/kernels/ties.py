"""The derivative of a maximum with ties."""

from core.arrays import Array, Namespace


def write_derivative_of_max(xp: Namespace, values: Array, largest: Array, ties: Array) -> None:
    """Replace `values` (..., n) by the derivatives of their maximum along the last axis, in place.

    The derivative is `1 / k` for each of k values that tie for the maximum, and 0 for the others. `largest` (...) is
    the maximum, `ties` (...) is scratch.
    """
    xp.equal(values, largest[..., None], out=values)
    xp.sum(values, axis=-1, out=ties)
    xp.divide(values, ties[..., None], out=values)
