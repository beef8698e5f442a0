"""Who shares memory with whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.exchange.shared_memory import Declaration, SharedMemory
from workers.machine.device import HOST, Device


class Sharing:
    """What a worker knows of everybody's memory. All workers of an attempt know the same, and so agree on what follows.

    `opened` (workers, workers) says whether the worker of a row has opened the memory of the worker of a column;
    `memories` are those that this worker has opened, by rank, with its own.
    """

    def __init__(self, opened: NDArray[np.bool_], memories: Mapping[int, SharedMemory]) -> None:
        self._opened, self._memories = opened, memories
        self._homes: list[int] = []
        for rank in range(len(opened)):
            hosts = (host for host in range(rank) if self._homes[host] == host and opened[rank, host])
            self._homes.append(next(hosts, rank))

    def home(self, rank: int) -> int:
        """The worker in whose memory this one keeps what all workers have alike: perhaps another, perhaps itself."""
        return self._homes[rank]

    def reads(self, reader: int, owner: int) -> bool:
        """Whether a worker reads in the memory of another one; if not, the other must send it what it has to know."""
        return bool(self._opened[reader, owner])

    def arrays(self, rank: int, declarations: Sequence[Declaration], device: Device = HOST) -> list[NDArray[Any]]:
        """Arrays, zeros at first, in the memory of a worker, which this one reads or is; copied by `device`.

        Where nobody else reads them they are not shared: such memory comes in larger pages, and is faster.
        """
        if np.count_nonzero(self._opened[:, rank]) > 1:
            return self._memories[rank].arrays(declarations, device)
        return [device.zeros(shape, dtype) for shape, dtype in declarations]
