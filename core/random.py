"""Counter-based random numbers: what is drawn depends on what it is for, never on who draws it or when."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from core.arrays import Array, Namespace


class Purpose(IntEnum):
    """What a random stream is for. The numbers are part of the format of a job: never change or reuse one."""

    INITIAL = 1
    ORDER = 2
    SPLIT = 3
    CHECK = 4
    DROPOUT = 5
    SWEEP = 6
    AUGMENTATION = 7


def generator(seed: int, purpose: Purpose, *, epoch: int = 0, step: int = 0, stream: int = 0) -> np.random.Generator:
    """Return the generator of one stream: Philox4x64 with key (seed, purpose) and counter (0, stream, step, epoch).

    Streams that differ in any argument do not overlap before 2**64 blocks of four numbers. `seed` is in [0, 2**63), the
    rest in [0, 2**64); ValueError says which is not.

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
    """What the random numbers of one forward pass depend on, besides the name of the node that draws them.

    `seed` is in [0, 2**63), `epoch` and `step` in [0, 2**64), and `shard` in [0, 2**16). ValueError says which is not.
    """

    seed: int
    epoch: int = 0
    step: int = 0
    shard: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, bits in (("seed", 63), ("epoch", 64), ("step", 64), ("shard", 16)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise ValueError(f"{name} must be in [0, 2**{bits}), not {getattr(self, name)}")


class Noise:
    """Fills an array, float32, with uniform numbers on [0, 1) that depend on a key and a node's name alone.

    They are those of `generator(seed, Purpose.DROPOUT, epoch=epoch, step=step, stream=stream)`, where the stream is the
    shard in its upper 16 bits and the first 48 bits of the SHA-256 of the name below. Nothing is allocated to draw.
    """

    def __init__(self, name: str, array: Array, xp: Namespace) -> None:
        self._array = array
        # Drawn on the host, where there is only one Philox, and so the same for every device.
        self._host = array if xp is np else np.empty(array.shape, array.dtype)
        self._name = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
        self._philox = np.random.Philox(key=np.zeros(2, np.uint64))
        self._generator = np.random.Generator(self._philox)
        self._state = self._philox.state

    def fill(self, key: RandomKey) -> None:
        """Draw the numbers for a key."""
        words = self._state["state"]
        words["key"][:] = key.seed, Purpose.DROPOUT
        words["counter"][:] = 0, key.shard << 48 | self._name, key.step, key.epoch
        self._philox.state = self._state
        self._generator.random(dtype=np.float32, out=self._host)
        if self._array is not self._host:
            self._array.set(self._host)  # type: ignore[attr-defined]  # CuPy's
