"""The logistic function and its logarithm, precise also far from 0."""

import numpy as np

from core.arrays import Array, Namespace


def write_logistic(xp: Namespace, x: Array, out: Array, steepness: float = 1.0) -> Array:
    """Write `1 / (1 + exp(-steepness x))` into `out` and return it.

    Small values keep their digits. Where the exponential overflows, the value is 0.
    """
    with np.errstate(over="ignore"):
        xp.multiply(x, -steepness, out=out)
        xp.exp(out, out=out)
    xp.add(out, 1, out=out)
    xp.divide(1, out, out=out)
    return out


def write_log1p_exp(xp: Namespace, x: Array, out: Array) -> Array:
    """Write `log(1 + exp(-|x|))` into `out` and return it."""
    xp.abs(x, out=out)
    xp.negative(out, out=out)
    xp.exp(out, out=out)
    xp.log1p(out, out=out)
    return out
