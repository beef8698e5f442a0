"""Buffers that share one block of memory where their lifetimes allow it."""

from bisect import insort
from dataclasses import dataclass
from math import prod

import numpy as np

from core.arrays import ALIGNMENT, Array, Namespace, Shape, aligned_zeros


@dataclass
class Lifetime:
    """An array and the steps of a program at which it is in use, both ends included."""

    shape: Shape
    dtype: np.dtype[np.generic]
    first: int
    last: int

    @property
    def size(self) -> int:
        """Bytes, rounded up to whole cache lines."""
        return -(-prod(self.shape) * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT


def place(lifetimes: list[Lifetime]) -> tuple[list[int], int]:
    """Return an offset in bytes for each array, and the bytes needed; arrays in use at the same step never overlap.

    Greedy by size: largest first, each at the lowest offset that is free while it is in use. Source: Pisarchyk and Lee,
    "Efficient memory management for deep neural net inference", 2020.
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []  # in order of offset
    for index in sorted(range(len(lifetimes)), key=lambda index: (-lifetimes[index].size, lifetimes[index].first)):
        array = lifetimes[index]
        offset = 0
        for other in placed:
            there = lifetimes[other]
            if there.first <= array.last and array.first <= there.last:
                if offset + array.size <= offsets[other]:
                    break
                offset = max(offset, offsets[other] + there.size)
        offsets[index] = offset
        insort(placed, index, key=offsets.__getitem__)
    return offsets, max((offsets[index] + lifetimes[index].size for index in placed), default=0)


def allocate(lifetimes: list[Lifetime], xp: Namespace) -> list[Array]:
    """Return an array for each lifetime, 64-byte aligned and C-contiguous, all within one block of memory."""
    offsets, size = place(lifetimes)
    memory = aligned_zeros((size,), np.uint8, xp)
    return [
        memory[offset : offset + prod(each.shape) * each.dtype.itemsize].view(each.dtype).reshape(each.shape)
        for offset, each in zip(offsets, lifetimes, strict=True)
    ]
