"""Which workers share memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.exchange.shared_memory import Declaration, SharedMemory
from workers.machine.device import HOST, Device


class Sharing:
    """Which worker has opened which worker's memory.

    `opened` (workers, workers) says whether the worker of a row has opened the memory of the worker of a column. It is
    the same in all workers of an attempt, and so is everything that follows from it. `memories` are the memories that
    this worker has opened, by rank, its own among them.
    """

    def __init__(self, opened: NDArray[np.bool_], memories: Mapping[int, SharedMemory]) -> None:
        self._opened, self._memories = opened, memories
        self._homes: list[int] = []
        for rank in range(len(opened)):
            hosts = (host for host in range(rank) if self._homes[host] == host and opened[rank, host])
            self._homes.append(next(hosts, rank))

    def home(self, rank: int) -> int:
        """The rank of the worker, perhaps itself, in whose memory a worker has the vectors that all have in common."""
        return self._homes[rank]

    def reads(self, reader: int, owner: int) -> bool:
        """Whether a worker reads another one's memory; if not, the owner must send it the data."""
        return bool(self._opened[reader, owner])

    def arrays(self, rank: int, declarations: Sequence[Declaration], device: Device = HOST) -> list[NDArray[Any]]:
        """Arrays, zeros at first, in the memory of a worker that this one has opened, or in its own.

        `device` is the device that will copy from them and to them. Arrays that no other worker reads are not in
        shared memory: ordinary memory has larger pages and is faster.
        """
        if np.count_nonzero(self._opened[:, rank]) > 1:
            return self._memories[rank].arrays(declarations, device)
        return [device.zeros(shape, dtype) for shape, dtype in declarations]
