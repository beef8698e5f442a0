"""Memory that workers on one machine share.

A worker creates an anonymous file in memory and sends the others its process id and descriptor. They open it through
/proc. The file has no name in any directory: the system frees it when the last process that has it open ends, however
that process ends. The size limit of a container's /dev/shm does not apply.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core.arrays import ALIGNMENT, Shape
from workers.machine.device import HOST, Device

NAME = "gradfleet"
NONCE_BYTES = 32

# Shape and dtype of an array.
Declaration = tuple[Shape, DTypeLike]


@dataclass(frozen=True)
class MemoryOffer:
    """The process and the file descriptor of a worker's memory, and the random bytes that the memory begins with."""

    process: int
    descriptor: int
    nonce: bytes


class SharedMemory:
    """One worker's memory, opened by that worker or by another one."""

    def __init__(self, offer: MemoryOffer, descriptor: int) -> None:
        self.offer = offer
        self._descriptor = descriptor

    @classmethod
    def create(cls) -> SharedMemory | None:
        """Create memory to share; None where the system does not support it."""
        if sys.platform != "linux":
            return None
        try:
            descriptor = os.memfd_create(NAME)
        except OSError:
            return None
        nonce = secrets.token_bytes(NONCE_BYTES)
        os.pwrite(descriptor, nonce, 0)
        return cls(MemoryOffer(os.getpid(), descriptor, nonce), descriptor)

    @classmethod
    def open(cls, offer: MemoryOffer) -> SharedMemory | None:
        """Open another worker's memory; None where that is not possible, for example from another machine.

        On another machine or in another container the same numbers may name no file or an unrelated one. Only a memory
        file of this name is opened, and the nonce identifies the right one.
        """
        path = f"/proc/{offer.process}/fd/{offer.descriptor}"
        try:
            if not os.readlink(path).startswith(f"/memfd:{NAME} "):  # noqa: PTH115  not a path that pathlib could follow
                return None
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        memory = cls(offer, descriptor)
        if os.pread(descriptor, NONCE_BYTES, 0) != offer.nonce:
            memory.close()
            return None
        return memory

    def arrays(self, declarations: Sequence[Declaration], device: Device = HOST) -> list[NDArray[Any]]:
        """Lay out aligned arrays, zeros at first. Processes that lay out the same declarations share the arrays.

        The arrays stay valid after `close`. `device` is the device that will copy from them and to them.
        """
        offsets, end = [], ALIGNMENT
        for shape, dtype in declarations:
            offsets.append(end)
            end += -(-prod(shape) * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT
        # The first process makes room. The file is never shortened, so no array is ever cut off.
        if os.fstat(self._descriptor).st_size < end:
            os.ftruncate(self._descriptor, end)
        mapped = mmap.mmap(self._descriptor, end)
        device.lock(np.frombuffer(mapped, np.uint8))
        return [
            np.frombuffer(mapped, dtype, prod(shape), offset).reshape(shape)
            for (shape, dtype), offset in zip(declarations, offsets, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
