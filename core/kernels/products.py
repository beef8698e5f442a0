"""Products of matrices, cut to the sizes at which BLAS is fastest."""

from __future__ import annotations

from functools import cache

import numpy as np

from core.arrays import Array, Namespace

# Multiply-adds of the largest product for which OpenBLAS, with AVX-512, reads the operands where they lie. It copies
# those of larger ones first, which takes up to a third of the time if a side of the product is short.
IN_PLACE = 1_000_000

# Columns of a part: whole registers, the best first. Measured on 100 to 500 rows of 75 to 4,800 numbers.
WIDTHS = (32, 48, 16)

# Rows of a part are a multiple of those that AVX-512 computes together, if there are as many.
TALL = 16

# Rows of a part: with fewer, the calls cost more than they save.
FEWEST = 6


@cache
def reads_in_place() -> bool:
    """Return whether NumPy uses AVX-512 in this process, and OpenBLAS with it: both go by the level of arithmetic."""
    return "X86_V4" in np.show_config("dicts")["SIMD Extensions"].get("found", ())


def multiply(xp: Namespace, left: Array, right: Array, out: Array) -> None:
    """Write `left right` into `out`.

    left: (..., rows, inner), right: (inner, columns), out: (..., rows, columns); each has a unit stride. The cut
    depends on these numbers and on the level of arithmetic alone, and with it the bits.
    """
    (*several, rows, inner), columns = left.shape, right.shape[1]
    if xp is not np or rows * inner * columns <= IN_PLACE or not reads_in_place():
        xp.matmul(left, right, out=out)
        return
    width = next((width for width in WIDTHS if columns % width == 0 and width * inner * FEWEST <= IN_PLACE), columns)
    most = IN_PLACE // (width * inner)
    if most < FEWEST:
        np.matmul(left, right, out=out)
        return
    height = -(-rows // -(-rows // most))
    if most >= TALL:
        height = min(-(-height // TALL) * TALL, most // TALL * TALL)
    whole = rows // height * height
    rights = right.reshape(inner, -1, width).swapaxes(0, 1)
    np.matmul(
        left[..., :whole, :].reshape(*several, -1, 1, height, inner),
        rights,
        out=out[..., :whole, :].reshape(*several, -1, height, len(rights), width).swapaxes(-3, -2),
    )
    if whole < rows:
        np.matmul(
            left[..., None, whole:, :],
            rights,
            out=out[..., whole:, :].reshape(*several, -1, len(rights), width).swapaxes(-3, -2),
        )
