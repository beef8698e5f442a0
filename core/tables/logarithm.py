"""The logarithm of 1 + x, from operations that every CPU rounds in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.arrays import Array

LN2 = 0.6931471805599453
HALF_ROOT = 0.7071067811865476
# log(m) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = (m - 1) / (m + 1), where s^2 < 0.0295. The relative error is below
# 1e-11, a thousandth of that of the rounding to float32.
FACTORS = tuple(2 / power for power in range(13, 0, -2))


def log1p(x: Array, work: Sequence[Array]) -> Array:
    """Return log(1 + x) of float64 numbers above -1, (n, columns), to 11 digits: more than float32 has.

    NumPy's own function gives other bits with other instruction sets. The statistics of a job are not computed by its
    workers, and so not at its level of arithmetic: they would depend on the machine.

    work: five arrays like `x`, which are overwritten; the result is the first one.
    """
    result, lost, mantissa, exponent, square = work
    np.add(x, 1, out=mantissa)
    # What was lost when 1 + x was rounded, which matters where x is small.
    np.subtract(mantissa, 1, out=lost)
    np.subtract(x, lost, out=lost)
    np.divide(lost, mantissa, out=lost)
    np.frexp(mantissa, mantissa, exponent)
    np.less(mantissa, HALF_ROOT, out=result)
    np.subtract(exponent, result, out=exponent)
    np.multiply(result, mantissa, out=result)
    np.add(mantissa, result, out=mantissa)  # twice as much where it was small
    np.add(mantissa, 1, out=square)
    np.subtract(mantissa, 1, out=mantissa)
    np.divide(mantissa, square, out=mantissa)
    np.multiply(mantissa, mantissa, out=square)
    result.fill(FACTORS[0])
    for factor in FACTORS[1:]:
        np.multiply(result, square, out=result)
        np.add(result, factor, out=result)
    np.multiply(result, mantissa, out=result)
    np.add(result, lost, out=result)
    np.multiply(exponent, LN2, out=exponent)
    return np.add(result, exponent, out=result)
