"""A model of the exchange: what every worker sends, receives and adds in a step, and how long that takes.

The counts follow from the number of workers and shards and the length of the vector, as in `workers/exchange/peers.py`.
Each worker is on its own machine, so nothing is shared, and the slowest worker determines the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.exchange.messages import HEADER
from workers.exchange.partition import Partition
from workers.exchange.vectors import FIRST_COLUMNS

FLOAT, DOUBLE = 4, 8  # bytes
COLUMNS = FIRST_COLUMNS + 1  # with that of the accuracy


@dataclass(frozen=True)
class Traffic:
    """What one worker does in one phase; it sends and receives as many messages."""

    messages: int
    sent: int  # bytes
    received: int
    additions: int = 0  # of floats


@dataclass(frozen=True)
class Costs:
    """Seconds of a phase of any size, and in addition of each message, byte and addition of floats."""

    latency: float
    message: float
    byte: float
    addition: float

    def phase(self, traffic: Sequence[Traffic]) -> float:
        """Return the seconds of the slowest worker, which sends and receives at once."""
        return self.latency + max(
            each.messages * self.message + max(each.sent, each.received) * self.byte + each.additions * self.addition
            for each in traffic
        )

    def work(self, traffic: Sequence[Traffic]) -> float:
        """Return the seconds of all workers together."""
        return sum(
            self.latency + each.messages * self.message + each.sent * self.byte + each.additions * self.addition
            for each in traffic
        )


def _length(part: slice) -> int:
    return part.stop - part.start


def reduce_scatter(workers: int, shards: int, floats: int) -> list[Traffic]:
    """Return what each worker does to sum up the gradients, each on its own slice."""
    partition = Partition(shards, floats, workers)
    roots = list(map(len, partition.subtrees))
    # The header and the rows of the table of shards go to every peer.
    fixed = [HEADER.size + _length(rows) * COLUMNS * DOUBLE for rows in partition.rows]
    peers = workers - 1
    return [
        Traffic(
            messages=peers,
            sent=peers * fixed[rank] + roots[rank] * FLOAT * (floats - mine),
            received=sum(fixed) - fixed[rank] + (sum(roots) - roots[rank]) * FLOAT * mine,
            additions=(sum(roots) - 1) * mine,
        )
        for rank, mine in enumerate(map(_length, partition.parameters))
    ]


def all_gather(workers: int, floats: int) -> list[Traffic]:
    """Return what each worker does to bring the updated parameters, and the squares of the gradient, to all."""
    partition = Partition(workers, floats, workers)
    slices = zip(partition.parameters, partition.squares, strict=True)
    sizes = [HEADER.size + FLOAT * (_length(mine) + _length(squares)) for mine, squares in slices]
    return [Traffic(workers - 1, sent=(workers - 1) * size, received=sum(sizes) - size) for size in sizes]


def exchange_seconds(workers: int, shards: int, floats: int, costs: Costs) -> float:
    """Return the seconds that a step takes for its exchange, as it is now."""
    if workers == 1:
        return 0.0
    return costs.phase(reduce_scatter(workers, shards, floats)) + costs.phase(all_gather(workers, floats))


def halving_seconds(workers: int, floats: int, costs: Costs) -> float:
    """Return the seconds of recursive halving and doubling, for a power of two of workers with a subtree each.

    In round r a worker exchanges a 2^r-th of the vector with the one whose subtree is the sibling of its own: the
    additions of the canonical tree, in its order, with one message in a round.
    """
    rounds = workers.bit_length() - 1
    parts = [floats >> number for number in range(1, rounds + 1)]
    moved = sum(2 * (costs.latency + costs.message + part * FLOAT * costs.byte) for part in parts)
    return moved + sum(parts) * costs.addition
