"""Training and validation rows, and the order in which an epoch visits them: pure functions of the seed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core import Purpose, generator

Rows = NDArray[np.int64]


def validation_rows(rows: int, share: float) -> int:
    """Number of validation rows: the share of the rows, rounded to the nearest row."""
    return round(rows * share)


def split(rows: int, share: float, seed: int, labels: NDArray[np.int64] | None = None) -> tuple[Rows, Rows]:
    """Row numbers for training and for validation, each in ascending order.

    The seed draws the validation rows. Each part is in the order of the file, which is fastest to read. With `labels`
    (rows,) the share is drawn from each class, rounded so that the total is the share of all rows.
    """
    order = generator(seed, Purpose.SPLIT).permutation(rows)
    count = validation_rows(rows, share)
    if labels is not None:
        order = order[np.argsort(_beyond_share(labels[order], count), kind="stable")]
    return np.sort(order[count:]), np.sort(order[:count])


def split_by_value(values: NDArray[np.uint8], train: Collection[int], validation: Collection[int]) -> tuple[Rows, Rows]:
    """Row numbers for training and for validation, each in ascending order, by their `values` (rows,).

    Rows with other values are in neither.
    """
    named = np.zeros((2, 256), np.bool_)
    named[0, list(train)] = named[1, list(validation)] = True
    return np.flatnonzero(named[0][values]), np.flatnonzero(named[1][values])


def _beyond_share(labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """False for `count` of the labels (rows,), the first ones of each class according to its share; True for others."""
    sizes = np.bincount(labels)
    shares = sizes * count / max(1, len(labels))
    counts = shares.astype(np.int64)
    # The largest remainders are rounded up; of equal ones that of the first class.
    counts[np.argsort(counts - shares, kind="stable")[: count - counts.sum()]] += 1
    by_class = np.argsort(labels, kind="stable")
    within = np.empty(len(labels), np.int64)
    within[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    beyond: NDArray[np.bool_] = within >= counts[labels]
    return beyond


def steps_per_epoch(train_rows: int, batch_size: int) -> int:
    """Number of batches of all the rows; the last one may be smaller."""
    return -(-train_rows // batch_size)


def batch_sizes(train_rows: int, batch_size: int) -> frozenset[int]:
    """Numbers of rows that the batches of all the rows have."""
    full, rest = divmod(train_rows, batch_size)
    return frozenset([batch_size] * bool(full) + [rest] * bool(rest))


def batches_of(order: Rows, batch_size: int) -> list[Rows]:
    """Cut an epoch's order into batches; the last one may be smaller."""
    starts = range(0, len(order), batch_size)
    return [order[start : start + batch_size] for start in starts]


@dataclass(frozen=True)
class Chunks:
    """A shuffle of data larger than memory: `rows` adjacent rows are a chunk, `window` chunks a window."""

    rows: int
    window: int


def epoch_order(train: Rows, seed: int, epoch: int, chunks: Chunks | None = None) -> Rows:
    """The training rows in the order in which an epoch, counted from 0, visits them.

    With `chunks`, chunks of rows are in random order, and so are the rows within each window of chunks: a window reads
    a few large parts of the file.
    """
    random = generator(seed, Purpose.ORDER, epoch=epoch)
    if chunks is None:
        return random.permutation(train)
    starts = random.permutation(-(-len(train) // chunks.rows)) * chunks.rows
    order = np.concatenate([train[start : start + chunks.rows] for start in starts])
    # The last chunk of the file may be smaller, so windows are counted in rows.
    for window in range(0, len(order), chunks.rows * chunks.window):
        random.shuffle(order[window : window + chunks.rows * chunks.window])
    return order


def split_evenly(count: int, parts: int) -> list[range]:
    """Cut 0..count into contiguous parts whose sizes differ by at most one, the larger ones first."""
    size, larger = divmod(count, parts)
    starts = [part * size + min(part, larger) for part in range(parts + 1)]
    return [range(start, stop) for start, stop in pairwise(starts)]
