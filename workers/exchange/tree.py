"""The canonical sum: one fixed binary tree over the shards, whoever adds.

Floating-point addition is not associative, so a sum's bits depend on its order. Here the order is a function of the
number of shards alone. A worker adds up the complete subtrees inside its range of shards; whoever combines the
subtrees' sums goes on along the same tree. Any number of workers makes the same additions.
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
        """The two sums that this one adds: the left has the largest power of two of shards below the whole."""
        middle = self.start + (1 << ((self.stop - self.start - 1).bit_length() - 1))
        return Subtree(self.start, middle), Subtree(middle, self.stop)

    def depth(self) -> int:
        """Additions on the longest way from a shard to this sum."""
        return (self.stop - self.start - 1).bit_length()


def complete_subtrees(owned: range, shards: int) -> list[Subtree]:
    """The largest subtrees that lie wholly inside a range of shards, from left to right."""

    def inside(node: Subtree) -> list[Subtree]:
        if owned.start <= node.start and node.stop <= owned.stop:
            return [node]
        if node.stop <= owned.start or owned.stop <= node.start or node.is_leaf:
            return []
        left, right = node.children()
        return inside(left) + inside(right)

    return inside(Subtree(0, shards))


def additions(roots: Sequence[Subtree], shards: int) -> list[tuple[int, int]]:
    """The additions that make the whole sum out of the sums of `roots`, which cover all shards from left to right.

    Each pair (into, source) says: add the sum at index `source` into the one at index `into`. The last result is at
    index 0.
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
