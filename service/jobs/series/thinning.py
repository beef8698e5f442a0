"""Thinning of series for drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FEWEST = 4  # points of a bucket


def thinned(values: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """Indices, in order, of at most `most` (4 or more) values that draw the same curve as all of them.

    More values are cut into buckets of about equal size; those of `turning_points` are kept.
    """
    if len(values) <= most:
        return np.arange(len(values))
    buckets = most // FEWEST
    return turning_points(values, np.linspace(0, len(values), buckets + 1).astype(np.intp))


def turning_points(values: npt.NDArray[np.float64], edges: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Indices, in order, of the first, the last, the smallest and the largest value of each bucket.

    Bucket k has the values from `edges[k]` up to, but not including, `edges[k + 1]`, and is not empty. NaN is neither
    the smallest nor the largest value, but is kept as the first or last.
    """
    bucket = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    absent = np.isnan(values)
    first, last = edges[:-1], edges[1:] - 1
    smallest = np.lexsort((np.where(absent, np.inf, values), bucket))[first]
    largest = np.lexsort((np.where(absent, -np.inf, values), bucket))[last]
    return np.unique(np.concatenate((first, last, smallest, largest)))
