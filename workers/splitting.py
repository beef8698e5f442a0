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


def epoch_order(train: Rows, seed: int, epoch: int) -> Rows:
    """The training rows in the order in which this epoch (from 0) visits them."""
    return generator(seed, Purpose.ORDER, epoch=epoch).permutation(train)
