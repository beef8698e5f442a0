"""Loops over several long vectors in a single pass, compiled by Numba if it is installed (extra `fast`).

A NumPy expression reads and writes memory once per operation, and memory traffic dominates the cost of an optimizer's
step. Each loop has an equivalent in NumPy. It does the same operations in the same order and rounds each result: fast
math is off, so operations are neither reassociated nor fused. The bits are therefore the same with and without Numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from core.arrays import Array, Namespace

Loop = Callable[..., None]

# Elements. Compilation takes about half a second per process, more than it can save for a small model.
SHORTEST = 65_536


@cache
def compile_loop(loop: Loop) -> Loop | None:
    """Return the loop compiled, without fast math, so that it runs without the GIL; None without Numba."""
    try:
        import numba  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None
    compiled: Loop = numba.njit(error_model="numpy", nogil=True)(loop)
    return compiled


def run_compiled(xp: Namespace, loop: Loop, *arguments: Any, shortest: int = 0) -> bool:
    """Call the compiled `loop(*arguments)`.

    Returns False and does nothing if the first array has fewer than `shortest` elements, by default `SHORTEST`, on a
    GPU, and without Numba. The caller then uses NumPy.
    """
    if arguments[0].size < max(shortest, SHORTEST) or xp is not np:
        return False
    compiled = compile_loop(loop)
    if compiled is None:
        return False
    compiled(*arguments)
    return True


def run_fused(xp: Namespace, loop: Loop, vectors: tuple[Array, ...], scalars: tuple[float, ...]) -> bool:
    """Call `run_compiled(xp, loop, *vectors, scalars)`, with the scalars rounded to the dtype of the vectors."""
    return run_compiled(xp, loop, *vectors, tuple(map(vectors[0].dtype.type, scalars)))
