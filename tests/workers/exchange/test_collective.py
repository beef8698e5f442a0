from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest

from core import aligned_zeros
from tests.workers.fixtures.exchanges import ATTEMPT, KEY, LONG
from workers.exchange.control import wait_until_ready
from workers.exchange.messages import Exchange, Membership
from workers.exchange.partition import SEGMENT, Partition
from workers.exchange.peers import PeerCollective

WORKERS, SIZE = 4, 5 * SEGMENT + 100

# Pairs of workers, of which the first cannot open the memory of the second.
SHARING: dict[str, set[tuple[int, int]]] = {
    "one machine": set(),
    "two machines": {(a, b) for a in range(WORKERS) for b in range(WORKERS) if a % 2 != b % 2},
    "in one direction": {(0, 1), (3, 2)},
    "one machine each": {(a, b) for a in range(WORKERS) for b in range(WORKERS)},
}


@pytest.mark.parametrize("unshared", SHARING.values(), ids=SHARING)
def test_sums_notes_tables_and_slices_reach_all_workers(unshared: set[tuple[int, int]]) -> None:
    """The workers add whole numbers, so that the order of the additions does not matter here."""
    random = np.random.default_rng(0)
    gradients = random.integers(0, 100, (WORKERS, SIZE)).astype(np.float32)
    partition = Partition(WORKERS, SIZE, WORKERS)  # with a sum for each worker
    with ExitStack() as stack:
        exchanges = [
            stack.enter_context(Exchange(Membership(rank, WORKERS, ATTEMPT, KEY), "127.0.0.1", LONG))
            for rank in range(WORKERS)
        ]

        def work(rank: int) -> list[bytes]:
            addresses = [exchange.address for exchange in exchanges]
            exchanges[rank].connect(
                [
                    replace(address, memory=None) if (rank, owner) in unshared else address
                    for owner, address in enumerate(addresses)
                ]
            )
            collective = PeerCollective(
                exchanges[rank], partition, aligned_zeros((SIZE,), np.float32), ("momentum",), 3
            )
            wait_until_ready(exchanges[rank])
            mine, found = partition.parameters[rank], []
            for step in (1, 2):
                np.multiply(gradients[rank], step, out=collective.sums[0])
                collective.table[partition.rows[rank]] = 10 * step + rank
                assert collective.reduce_scatter(step, note=5 * step if rank == 0 else 99) == 5 * step
                found.append(collective.table.copy())
                for into, source in collective.additions:
                    np.add(into, source, out=into)
                collective.parameters[mine] = collective.gradient
                collective.squares[partition.squares[rank]] = rank + step
                collective.gather_squares(step)
                found.append(collective.squares.copy())
                collective.gather_parameters(step)
                found.append(collective.parameters.copy())
            collective.state["momentum"][mine] = -collective.gradient
            collective.gather_state(2)
            return [array.tobytes() for array in (*found, collective.state["momentum"])]

        with ThreadPoolExecutor(WORKERS) as pool:
            results = list(pool.map(work, range(WORKERS)))
    total = reduce(np.add, gradients)
    ranks = np.concatenate([np.full(part.stop - part.start, rank) for rank, part in enumerate(partition.squares)])
    expected: list[Any] = []
    for step in (1, 2):
        expected += [np.repeat(10.0 * step + np.arange(WORKERS), 3), (ranks + step).astype(np.float32), total * step]
    assert all(result == [array.tobytes() for array in (*expected, -2 * total)] for result in results)
