"""Counter-based random numbers: what is drawn depends on what it is for, never on who draws it or when."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a random stream is for. The numbers are part of the format of a job: never change or reuse one."""

    INITIAL = 1
    ORDER = 2
    SPLIT = 3
    CHECK = 4


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
