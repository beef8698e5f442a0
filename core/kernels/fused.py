"""Loops that touch each element of several long vectors once, compiled by Numba where it is installed (extra `fast`).

A NumPy expression walks its vectors once per operation, and the walking is what an optimizer's step costs. A loop here
does the operations of the NumPy form beside it, in its order, each rounded by itself: fast math is off, so nothing is
reassociated and no multiply and add become one. The bits are therefore those of NumPy's form, with Numba or without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from core.arrays import Array, Namespace

Loop = Callable[..., None]

# Elements. Compiling takes about half a second of a process, which a small model never earns back.
SHORTEST = 65_536


@cache
def compile_loop(loop: Loop) -> Loop | None:
    """Return the loop compiled without fast math, to run without the interpreter's lock; None without Numba."""
    try:
        import numba  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        return None
    compiled: Loop = numba.njit(error_model="numpy", nogil=True)(loop)
    return compiled


def run_fused(xp: Namespace, loop: Loop, vectors: tuple[Array, ...], scalars: tuple[float, ...]) -> bool:
    """Call `loop(*vectors, scalars)` compiled, the scalars rounded to the vectors' dtype.

    Return False, with nothing done, for short vectors, on a GPU, and without Numba: the caller then runs NumPy's form.
    """
    if vectors[0].size < SHORTEST or xp is not np:
        return False
    compiled = compile_loop(loop)
    if compiled is None:
        return False
    compiled(*vectors, tuple(map(vectors[0].dtype.type, scalars)))
    return True
