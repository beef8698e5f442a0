"""The canonical sum: one fixed binary tree over the shards.

Floating-point addition is not associative, so the bits of a sum depend on the order of the additions. Here the order
depends only on the number of shards. A worker adds up the complete subtrees inside its range of shards, and the sums of
these subtrees are added along the same tree. So the additions are the same for any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Subtree:
    """The sum over shards `start` to `stop` (exclusive), a node of the tree."""

    start: int
    stop: int

    @property
    def is_leaf(self) -> bool:
        """Whether this is one shard."""
        return self.stop - self.start == 1

    def children(self) -> tuple[Subtree, Subtree]:
        """The two sums that this one adds. The left has the largest power of two of shards below the whole."""
        middle = self.start + (1 << ((self.stop - self.start - 1).bit_length() - 1))
        return Subtree(self.start, middle), Subtree(middle, self.stop)

    def depth(self) -> int:
        """The number of additions on the longest path from a shard to this sum."""
        return (self.stop - self.start - 1).bit_length()


def complete_subtrees(owned: range, shards: int) -> list[Subtree]:
    """The largest subtrees that lie completely inside a range of shards, from left to right."""

    def inside(node: Subtree) -> list[Subtree]:
        if owned.start <= node.start and node.stop <= owned.stop:
            return [node]
        if node.stop <= owned.start or owned.stop <= node.start or node.is_leaf:
            return []
        left, right = node.children()
        return inside(left) + inside(right)

    return inside(Subtree(0, shards))


def additions(roots: Sequence[Subtree], shards: int) -> list[tuple[int, int]]:
    """The additions that make the whole sum from the sums of `roots`, which cover all shards from left to right.

    A pair (into, source) means: add the sum at index `source` to the sum at index `into`. The result is at index 0.
    """
    index = {root: position for position, root in enumerate(roots)}
    steps: list[tuple[int, int]] = []

    def combine(node: Subtree) -> int:
        if node in index:
            return index[node]
        left, right = node.children()
        into, source = combine(left), combine(right)
        steps.append((into, source))
        return into

    combine(Subtree(0, shards))
    return steps
