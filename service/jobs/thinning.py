"""Fewer points for the same curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FEWEST = 4  # a bucket's points


def thinned(values: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """Indices, in order, of at most `most` (4 or more) values that draw the same curve as all of them.

    Where there are more, they are cut into buckets of about equal size, and the first, the last, the smallest and the
    largest value of each are kept. NaN counts as neither small nor large; a series that ends in one still does.
    """
    if len(values) <= most:
        return np.arange(len(values))
    buckets = most // FEWEST
    edges = np.linspace(0, len(values), buckets + 1).astype(np.intp)
    bucket = np.repeat(np.arange(buckets), np.diff(edges))
    absent = np.isnan(values)
    first, last = edges[:-1], edges[1:] - 1
    smallest = np.lexsort((np.where(absent, np.inf, values), bucket))[first]
    largest = np.lexsort((np.where(absent, -np.inf, values), bucket))[last]
    return np.unique(np.concatenate((first, last, smallest, largest)))
