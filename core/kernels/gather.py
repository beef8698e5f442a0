"""Gathers rows of a table, in any order, into a float32 buffer, and converts and scales them."""

from __future__ import annotations

import numpy as np

from core.arrays import Array, take
from core.kernels.fused import compile_loop
from core.kernels.prefetch import LINE, declare_prefetch, prefetch

# Bytes of stored rows per chunk: they and their float32 form fit into the level-two cache.
PIECE = 65_536

# Elements of a table from which the compiled loop is used. Compilation takes half a second and saves a quarter of a
# nanosecond per element, so that it pays off after fifteen epochs.
LARGE = 2**27

# Bytes of rows, at least one row, that are prefetched together, two groups ahead of the rows being written. The
# processor seems to drop prefetches while many writes are outstanding: with one row at a time, rows of 784 bytes take
# half as long again during training, and with one line at a time even longer.
GROUP = 4_096


def gather(source: Array, rows: Array, out: Array, scale: tuple[Array, Array] | None = None) -> None:
    """Write `source[rows]` into `out`; with a scale `(mean, deviation)`, `(source[rows] - mean) / deviation`.

    source: uint8 or float32 (rows, features), C-contiguous.
    rows: int64 (n,), in range. out: float32 (n, features) or, C-contiguous, (n, ...) with as many numbers in a row.
    mean, deviation: float32 (features,).

    The bits are those of the NumPy expression in float32, with and without the compiled loop.
    """
    out = out.reshape(len(out), source.shape[1])  # a view
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
    """Write stored values (n, features) into `out`, converted and scaled as by `gather`."""
    out = out.reshape(values.shape)
    np.copyto(out, values)
    if scale is not None:
        _scale(out, *scale)


def _scale(values: Array, mean: Array, deviation: Array) -> None:
    np.subtract(values, mean, out=values)
    np.divide(values, deviation, out=values)


def _gather_compiled(source: Array, rows: Array, out: Array, scale: tuple[Array, Array] | None) -> bool:
    """Gather with a compiled loop. Returns False and does nothing without Numba."""
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
            prefetch(source, rows[i], width - 1)  # a row that does not start at a line ends in one more line
        for i in range(max(start, 0), min(start + group, rows.size)):
            row = rows[i]
            if mean is None or deviation is None:  # constant at compile time
                for j in range(width):
                    out[i, j] = np.float32(source[row, j])
            else:
                for j in range(width):
                    out[i, j] = (np.float32(source[row, j]) - mean[j]) / deviation[j]
