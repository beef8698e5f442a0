"""Counter-based random numbers: a pure function of seed, purpose and counters, independent of process and order."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from core.arrays import Array, Namespace


class Purpose(IntEnum):
    """The purpose of a random stream. The numbers are part of the job format: never change or reuse one."""

    INITIAL = 1
    ORDER = 2
    SPLIT = 3
    CHECK = 4
    DROPOUT = 5
    SWEEP = 6
    AUGMENTATION = 7


def generator(seed: int, purpose: Purpose, *, epoch: int = 0, step: int = 0, stream: int = 0) -> np.random.Generator:
    """Return the generator of one stream: Philox4x64 with key (seed, purpose) and counter (0, stream, step, epoch).

    Streams that differ in any argument do not overlap within 2**64 blocks of four numbers. `seed` is in [0, 2**63), the
    others are in [0, 2**64). Raises ValueError if one is out of range.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    for name, value, bits in (("seed", seed, 63), ("epoch", epoch, 64), ("step", step, 64), ("stream", stream, 64)):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} must be in [0, 2**{bits}), not {value}")
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, stream, step, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


@dataclass(frozen=True, slots=True)
class RandomKey:
    """The key of the random numbers of one forward pass. They also depend on the name of the node.

    `seed` is in [0, 2**63), `epoch` and `step` in [0, 2**64), and `shard` in [0, 2**16). Raises ValueError if one is
    out of range.
    """

    seed: int
    epoch: int = 0
    step: int = 0
    shard: int = 0

    def __post_init__(self) -> None:
        for name, bits in (("seed", 63), ("epoch", 64), ("step", 64), ("shard", 16)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise ValueError(f"{name} must be in [0, 2**{bits}), not {getattr(self, name)}")


class Noise:
    """Fills a float32 array with uniform random numbers on [0, 1) that depend only on a key and the name of a node.

    They are those of `generator(seed, Purpose.DROPOUT, epoch=epoch, step=step, stream=stream)`, where the upper 16 bits
    of the stream are the shard, and the lower 48 bits the first 48 bits of the SHA-256 of the name. `fill` does not
    allocate memory.
    """

    def __init__(self, name: str, array: Array, xp: Namespace) -> None:
        self._array = array
        # Generated on the host, by a single implementation of Philox, so that the numbers are the same on every device.
        self._host = array if xp is np else np.empty(array.shape, array.dtype)
        self._name = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
        self._philox = np.random.Philox(key=np.zeros(2, np.uint64))
        self._generator = np.random.Generator(self._philox)
        self._state = self._philox.state

    def fill(self, key: RandomKey) -> None:
        """Fill the array with the numbers for a key."""
        words = self._state["state"]
        words["key"][:] = key.seed, Purpose.DROPOUT
        words["counter"][:] = 0, key.shard << 48 | self._name, key.step, key.epoch
        self._philox.state = self._state
        self._generator.random(dtype=np.float32, out=self._host)
        if self._array is not self._host:
            self._array.set(self._host)  # type: ignore[attr-defined]  # a CuPy array
