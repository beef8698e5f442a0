"""Fewer points for the same curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FEWEST = 4  # a bucket's points


def thinned(values: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """Indices, in order, of at most `most` (4 or more) values that draw the same curve as all of them.

    Where there are more, they are cut into buckets of about equal size, and of each is kept what `turning_points` says.
    """
    if len(values) <= most:
        return np.arange(len(values))
    buckets = most // FEWEST
    return turning_points(values, np.linspace(0, len(values), buckets + 1).astype(np.intp))


def turning_points(values: npt.NDArray[np.float64], edges: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Indices, in order, of the first, the last, the smallest and the largest value of each bucket.

    Bucket k, which is not empty, holds the values from `edges[k]` to before `edges[k + 1]`. NaN counts as neither small
    nor large; a series that ends in one still does.
    """
    bucket = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    absent = np.isnan(values)
    first, last = edges[:-1], edges[1:] - 1
    smallest = np.lexsort((np.where(absent, np.inf, values), bucket))[first]
    largest = np.lexsort((np.where(absent, -np.inf, values), bucket))[last]
    return np.unique(np.concatenate((first, last, smallest, largest)))
