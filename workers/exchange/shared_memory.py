"""Memory that workers on one machine share.

A worker makes a file that exists in memory alone, and offers it by its process and file descriptor; others open it by
way of /proc. It has no name in any directory, so nothing is left of it once the last process that knows it is gone,
however that came to pass, and the limit on /dev/shm in a container does not matter.
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

# What an array is to be: its shape and dtype.
Declaration = tuple[Shape, DTypeLike]


@dataclass(frozen=True)
class Offer:
    """Where a worker's memory can be opened, and the random bytes that it begins with."""

    process: int
    descriptor: int
    nonce: bytes


class SharedMemory:
    """One worker's memory, opened by itself or by another one."""

    def __init__(self, offer: Offer, descriptor: int) -> None:
        self.offer = offer
        self._descriptor = descriptor

    @classmethod
    def create(cls) -> SharedMemory | None:
        """Make memory to offer; None where the system has no such thing."""
        if sys.platform != "linux":
            return None
        try:
            descriptor = os.memfd_create(NAME)
        except OSError:
            return None
        nonce = secrets.token_bytes(NONCE_BYTES)
        os.pwrite(descriptor, nonce, 0)
        return cls(Offer(os.getpid(), descriptor, nonce), descriptor)

    @classmethod
    def open(cls, offer: Offer) -> SharedMemory | None:
        """Open another worker's memory; None where that is not possible, as it is from another machine.

        On another machine, or in another container, the same numbers may name somebody else's file, or nothing. A file
        that is no memory of this name is not even opened, and the nonce tells the right one from all others.
        """
        path = f"/proc/{offer.process}/fd/{offer.descriptor}"
        try:
            if not os.readlink(path).startswith(f"/memfd:{NAME} "):  # noqa: PTH115  no path that pathlib could follow
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
        """Lay out aligned arrays, zeros at first: whoever lays out the same ones, in whichever process, shares them.

        They stay when the memory is closed. `device` is the one that is to copy from them and to them.
        """
        offsets, end = [], ALIGNMENT
        for shape, dtype in declarations:
            offsets.append(end)
            end += -(-prod(shape) * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT
        # Whoever comes first makes room. Never shortened, so no array is ever cut off.
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
