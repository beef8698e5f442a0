"""Arrays that share one block of memory where their lifetimes allow it."""

from bisect import insort
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from core.arrays import ALIGNMENT, Array, Shape


@dataclass
class Lifetime:
    """An array and the first and last step of a program at which it is in use."""

    shape: Shape
    dtype: np.dtype[np.generic]
    first: int
    last: int

    @property
    def size(self) -> int:
        """Bytes, rounded up to whole cache lines."""
        return -(-prod(self.shape) * self.dtype.itemsize // ALIGNMENT) * ALIGNMENT


class Buffer(NamedTuple):
    """The place of an array in a block of memory; `offset` is in bytes."""

    shape: Shape
    dtype: np.dtype[np.generic]
    offset: int

    def view(self, memory: Array) -> Array:
        """Return the array, C-contiguous, as a view of the block, a vector of bytes."""
        stop = self.offset + prod(self.shape) * self.dtype.itemsize
        return memory[self.offset : stop].view(self.dtype).reshape(self.shape)


def place(lifetimes: list[Lifetime]) -> tuple[list[int], int]:
    """Return an offset in bytes for each array, and the bytes needed; arrays in use at the same step never overlap.

    Greedy by size: largest first, each at the lowest offset that is free while it is in use. Source: Pisarchyk and Lee,
    "Efficient memory management for deep neural net inference", 2020.
    """
    offsets, sizes = [0] * len(lifetimes), [array.size for array in lifetimes]
    placed: list[int] = []  # in order of offset
    for index in sorted(range(len(lifetimes)), key=lambda index: (-sizes[index], lifetimes[index].first)):
        array, size, offset = lifetimes[index], sizes[index], 0
        for other in placed:
            there = lifetimes[other]
            if there.first <= array.last and array.first <= there.last:
                if offset + size <= offsets[other]:
                    break
                offset = max(offset, offsets[other] + sizes[other])
        offsets[index] = offset
        insort(placed, index, key=offsets.__getitem__)
    return offsets, max((offsets[index] + sizes[index] for index in placed), default=0)
