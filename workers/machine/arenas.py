"""The memory in which a worker's plans lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core import aligned_zeros
from workers.machine.device import HOST, Device

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Arena(NamedTuple):
    """A vector of bytes on a device."""

    device: Device
    memory: NDArray[Any]


class Arenas:
    """One arena for each thread that runs plans.

    A thread runs its plans one after another, so all of them share its arena: those of training, of each number of
    rows, and of the evaluation. `nbytes` is the size of the largest one.
    """

    def __init__(self, device: Device = HOST, nbytes: int = 0) -> None:
        self.device, self._nbytes = device, nbytes
        self._arenas: dict[int, Arena] = {}

    def of(self, thread: int, nbytes: int) -> Arena:
        """The arena of a thread. It is replaced by a larger one if it has less than `nbytes`."""
        if thread not in self._arenas or self._arenas[thread].memory.nbytes < nbytes:
            memory = aligned_zeros((max(nbytes, self._nbytes),), np.uint8, self.device.xp)
            self._arenas[thread] = Arena(self.device, memory)
        return self._arenas[thread]
