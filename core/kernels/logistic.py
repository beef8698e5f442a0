"""The logistic function and its logarithm, computed without overflow."""

from core.arrays import Array, Namespace


def write_logistic(xp: Namespace, x: Array, out: Array, steepness: float = 1.0) -> Array:
    """Write `1 / (1 + exp(-steepness x))` into `out`, as `tanh(steepness x / 2) / 2 + 1 / 2`, and return it."""
    xp.multiply(x, 0.5 * steepness, out=out)
    xp.tanh(out, out=out)
    xp.multiply(out, 0.5, out=out)
    xp.add(out, 0.5, out=out)
    return out


def write_log1p_exp(xp: Namespace, x: Array, out: Array) -> Array:
    """Write `log(1 + exp(-|x|))` into `out` and return it."""
    xp.abs(x, out=out)
    xp.negative(out, out=out)
    xp.exp(out, out=out)
    xp.log1p(out, out=out)
    return out
