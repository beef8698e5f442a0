"""Rows of a table, in any order, into the float32 buffer that a plan reads, converted and scaled on the way."""

from __future__ import annotations

import numpy as np

from core.arrays import Array, take
from core.kernels.fused import compile_loop
from core.kernels.prefetch import LINE, declare_prefetch, prefetch

# Bytes of rows as they are stored that are in work at once: they and what becomes of them stay in a level-two cache.
PIECE = 65_536

# Elements of a table from which a compiled loop is worth its compilation, half a second: it saves a fourth of a
# nanosecond for each element, so that takes fifteen epochs.
LARGE = 2**27

# Bytes of rows, one row at least, that are asked for together, twice that ahead of what is written: the processor does
# not guess where the next row lies. It seems to drop requests while many writes wait for their lines: one row at a
# time, let alone one line, takes half as long again for rows of 784 bytes between the steps of a training.
GROUP = 4_096


def gather(source: Array, rows: Array, out: Array, scale: tuple[Array, Array] | None = None) -> None:
    """Write `source[rows]` into `out`; with a scale `(mean, deviation)`, `(source[rows] - mean) / deviation`.

    source: uint8 or float32 (rows, features), C-contiguous.
    rows: int64 (n,), in range. out: float32 (n, features). mean, deviation: float32 (features,).

    The bits are those of the NumPy expression in float32, whichever way is taken.
    """
    if source.size >= LARGE and _gather_compiled(source, rows, out, scale):
        return
    if source.dtype == out.dtype:
        take(np, source, rows, out, axis=0)
        if scale is not None:
            _scale(out, *scale)
        return
    count = max(1, PIECE // max(1, source[0].nbytes))
    stored = np.empty((min(count, len(rows)), source.shape[1]), source.dtype)
    for start in range(0, len(rows), count):
        part = out[start : start + count]
        convert(take(np, source, rows[start : start + count], stored[: len(part)], axis=0), part, scale)


def convert(values: Array, out: Array, scale: tuple[Array, Array] | None = None) -> None:
    """Write values as they are stored into `out`, converted and scaled as `gather` does it."""
    np.copyto(out, values)
    if scale is not None:
        _scale(out, *scale)


def _scale(values: Array, mean: Array, deviation: Array) -> None:
    np.subtract(values, mean, out=values)
    np.divide(values, deviation, out=values)


def _gather_compiled(source: Array, rows: Array, out: Array, scale: tuple[Array, Array] | None) -> bool:
    """Gather with a compiled loop; False, with nothing done, without Numba."""
    compiled = compile_loop(_gather_rows)
    if compiled is None:
        return False
    declare_prefetch()
    compiled(source, rows, out, *(scale or (None, None)))
    return True


def _gather_rows(source: Array, rows: Array, out: Array, mean: Array | None, deviation: Array | None) -> None:
    width, line = source.shape[1], LINE // source.itemsize
    group = max(1, GROUP // (width * source.itemsize))
    for start in range(-2 * group, rows.size, group):
        for i in range(start + 2 * group, min(start + 3 * group, rows.size)):
            for j in range(0, width, line):
                prefetch(source, rows[i], j)
            prefetch(source, rows[i], width - 1)  # a row that begins within a line ends in one more
        for i in range(max(start, 0), min(start + group, rows.size)):
            row = rows[i]
            if mean is None or deviation is None:  # known when it is compiled
                for j in range(width):
                    out[i, j] = np.float32(source[row, j])
            else:
                for j in range(width):
                    out[i, j] = (np.float32(source[row, j]) - mean[j]) / deviation[j]
