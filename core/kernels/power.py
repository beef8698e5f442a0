"""Powers with the same bits on every CPU."""

from math import modf, sqrt


def power(base: float, exponent: float) -> float:
    """Return `base^exponent` for a base and an exponent of at least 0, where 0^0 is 1; infinity if it overflows.

    Only products and square roots are used, which IEEE 754 defines to the last bit. The C library's `pow`, which
    Python's `**` calls, has another last bit on CPUs with fused multiply-add: measured for one in 500 to 1,000 powers.
    The relative error is at most about `exponent` times that of one product.
    """
    part, whole = modf(exponent)
    result, square, bits = 1.0, base, int(whole)
    while bits:
        if bits & 1:
            result *= square
        square, bits = square * square, bits >> 1
    root = base
    while part:  # the binary digits of the part behind the point, each worth a root
        root, part = sqrt(root), 2 * part
        if part >= 1:
            result, part = result * root, part - 1
    return result
