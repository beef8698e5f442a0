"""Arrays that share one block of memory where their lifetimes allow it."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
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


class _Taken:
    """Ranges of the block that are taken, sorted; those that overlap or touch are one."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        """Take a range."""
        first, after = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < after:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[after - 1])
        self._starts[first:after] = [start]
        self._stops[first:after] = [stop]

    def free(self, offset: int, size: int) -> int:
        """Return the lowest offset from `offset` on at which `size` bytes are not taken."""
        index = bisect_right(self._stops, offset)
        while index < len(self._starts) and self._starts[index] < offset + size:
            offset = self._stops[index]
            index += 1
        return offset


class _Times:
    """What is taken at each step: a segment tree over the steps, since an array may be in use at thousands of them.

    Node 1 stands for all steps, and nodes 2i and 2i + 1 for the first and second half of those of node i.
    """

    def __init__(self, steps: int) -> None:
        self._leaves = 1 << (steps - 1).bit_length()
        # By node: of arrays in use at each of its steps, and at any of them.
        self._throughout: defaultdict[int, _Taken] = defaultdict(_Taken)
        self._within: defaultdict[int, _Taken] = defaultdict(_Taken)

    def take(self, size: int, first: int, last: int) -> int:
        """Take the lowest offset at which `size` bytes are free from step `first` to step `last`; return it."""
        exact, above = self._nodes(first, last)
        taken = [self._within[node] for node in exact if node in self._within]
        taken += [self._throughout[node] for node in above if node in self._throughout]
        offset, before = 0, -1
        while offset != before:
            before = offset
            for each in taken:
                offset = each.free(offset, size)
        for node in exact:
            self._throughout[node].add(offset, offset + size)
        for node in (*exact, *above):
            self._within[node].add(offset, offset + size)
        return offset

    def _nodes(self, first: int, last: int) -> tuple[list[int], set[int]]:
        """Return the fewest nodes that stand for the steps from `first` to `last`, and all nodes above them."""
        exact, above = [], set()
        low, high = first + self._leaves, last + self._leaves + 1
        while low < high:
            if low % 2:
                exact.append(low)
                low += 1
            if high % 2:
                high -= 1
                exact.append(high)
            low, high = low // 2, high // 2
        for node in exact:
            while (node := node // 2) and node not in above:
                above.add(node)
        return exact, above


def place(lifetimes: list[Lifetime]) -> tuple[list[int], int]:
    """Return an offset in bytes for each array, and the bytes needed; arrays in use at the same step never overlap.

    Greedy by size: largest first, each at the lowest offset that is free while it is in use. Source: Pisarchyk and Lee,
    "Efficient memory management for deep neural net inference", 2020.
    """
    offsets, sizes = [0] * len(lifetimes), [array.size for array in lifetimes]
    times = _Times(1 + max((array.last for array in lifetimes), default=0))
    for index in sorted(range(len(lifetimes)), key=lambda index: (-sizes[index], lifetimes[index].first)):
        if sizes[index]:
            offsets[index] = times.take(sizes[index], lifetimes[index].first, lifetimes[index].last)
    return offsets, max((offset + size for offset, size in zip(offsets, sizes, strict=True)), default=0)
