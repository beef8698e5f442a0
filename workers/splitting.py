"""Which rows train and which validate, and in what order an epoch visits them: pure functions of the seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core import Purpose, generator

Rows = NDArray[np.int64]


def validation_rows(rows: int, share: float) -> int:
    """Number of rows that are kept for validation: the share, rounded to the nearest row."""
    return round(rows * share)


def split(rows: int, share: float, seed: int) -> tuple[Rows, Rows]:
    """Row numbers for training and for validation, each in ascending order.

    The seed draws the validation rows; the order within each part is the file's, which reads best from disk.
    """
    order = generator(seed, Purpose.SPLIT).permutation(rows)
    count = validation_rows(rows, share)
    return np.sort(order[count:]), np.sort(order[:count])


def steps_per_epoch(train_rows: int, batch_size: int) -> int:
    """Number of batches that hold all the rows; the last one may not be full."""
    return -(-train_rows // batch_size)


def batches_of(order: Rows, batch_size: int) -> list[Rows]:
    """Cut an epoch's order into batches; the last one may not be full."""
    starts = range(0, len(order), batch_size)
    return [order[start : start + batch_size] for start in starts]


def epoch_order(train: Rows, seed: int, epoch: int) -> Rows:
    """The training rows in the order in which this epoch (from 0) visits them."""
    return generator(seed, Purpose.ORDER, epoch=epoch).permutation(train)
