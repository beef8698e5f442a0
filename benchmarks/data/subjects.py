"""What fills a batch's buffer from a shuffled table: the engine, `numpy.take` alone, and PyTorch's DataLoader."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any
from unittest.mock import patch

import numpy as np

from core import aligned_empty
from core.kernels import gather

BATCH = 128


def batches_of(rows: int) -> list[np.ndarray]:
    """Return the full batches of a shuffled epoch."""
    order = np.random.default_rng(0).permutation(rows)
    return [order[start : start + BATCH] for start in range(0, rows - BATCH + 1, BATCH)]


def engine(table: np.ndarray, *, scaled: bool = False, compiled: bool = True) -> Callable[[], None]:
    """The engine's loading into a float32 buffer; without `compiled`, as without Numba."""
    out, order = aligned_empty((BATCH, table.shape[1]), np.float32), cycle(batches_of(len(table)))
    statistics = np.random.default_rng(0).uniform(1, 2, (2, table.shape[1])).astype(np.float32)
    scale = (statistics[0], statistics[1]) if scaled else None

    def load() -> None:
        gather.gather(table, next(order), out, scale)

    def load_uncompiled() -> None:
        with patch.object(gather, "LARGE", table.size + 1):
            load()

    return load if compiled else load_uncompiled


def take(table: np.ndarray) -> Callable[[], None]:
    """Copy the rows without a conversion: bytes stay bytes."""
    out, order = aligned_empty((BATCH, table.shape[1]), table.dtype), cycle(batches_of(len(table)))
    return lambda: np.take(table, next(order), axis=0, out=out, mode="clip")


def loader(table: np.ndarray, workers: int, *, batched: bool = False) -> Callable[[], None]:
    """PyTorch's DataLoader over the same table, and a copy of its batches into a float32 buffer.

    `batched`: the loader indexes the table with whole batches of row numbers instead of single rows.
    """
    import torch  # noqa: PLC0415
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset  # noqa: PLC0415

    with warnings.catch_warnings():
        # PyTorch has no read-only arrays; nothing writes to this one.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        data = TensorDataset(torch.from_numpy(table))
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "drop_last": True}
    if batched:
        options = {"sampler": BatchSampler(RandomSampler(data), BATCH, drop_last=True), "batch_size": None}
    loading = DataLoader(data, num_workers=workers, persistent_workers=workers > 0, **options)
    out = torch.empty(BATCH, table.shape[1])

    def forever() -> Iterator[Any]:
        while True:
            yield from loading

    batches = forever()

    def load() -> None:
        out.copy_(next(batches)[0])

    return load
