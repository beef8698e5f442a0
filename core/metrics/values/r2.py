"""The coefficient of determination."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from core.metrics.base import Sums, Tally, TargetMetric
from core.metrics.values.differences import differences

if TYPE_CHECKING:
    from core.arrays import Array, Namespace

#: bits of a target's leading part
LEADING = 16


class Moments(Tally):
    """For each target, the sum of squared differences, and sums from which the variance follows.

    The variance is the difference of two sums that are nearly equal if the mean is large. So a target is the sum of a
    part h of 16 leading bits and the rest l. The sums are those of h, l, h², h l and l². Rounding errors are then 2^-16
    of those of the sum of squares, and sums of targets in float32 of similar size are exact.
    """

    def columns(self, outputs: int) -> int:
        return 6 * outputs

    def add(self, xp: Namespace, predictions: Array, truth: Array, sums: Sums) -> None:
        targets = xp.multiply(truth, 1.0, dtype=np.float64)
        # The method of Veltkamp (1968): `c - (c - t)` has the leading bits of t.
        c = targets * float(2 ** (53 - LEADING) + 1)
        h = xp.subtract(c, xp.subtract(c, targets))
        rest = xp.subtract(targets, h)
        parts = (xp.square(differences(xp, predictions, truth)), h, rest, xp.square(h), h * rest, xp.square(rest))
        table = sums.reshape(6, -1)
        for index, part in enumerate(parts):
            xp.add(table[index], part.sum(axis=0), out=table[index])


class R2(TargetMetric):
    """`1 - sum (prediction - target)² / sum (target - mean)²`: the mean of these over several targets.

    A constant target counts 1 if it is predicted exactly, and 0 otherwise. NaN if there is only one row. It is
    scikit-learn's `r2_score`. A target counts as constant if its standard deviation is less than 1e-10 of its mean,
    times the square root of the number of rows.
    """

    type: ClassVar[str] = "r2"
    higher_is_better: ClassVar[bool] = True
    tally: ClassVar[Tally] = Moments()

    def of_each(self, sums: Sums, rows: int) -> Sums:
        return np.array([_score(each.tolist(), rows) for each in sums.reshape(6, -1).T])


def _score(sums: list[float], rows: int) -> float:
    squares, *moments = sums
    if rows < 2 or np.isnan(squares) or not np.isfinite(moments).all():
        return float("nan")
    # Exact, so that only the sums have rounding errors.
    h, rest, hh, h_rest, rest_rest = (Fraction(each) for each in moments)
    total = float(hh - h * h / rows + 2 * (h_rest - h * rest / rows) + rest_rest - rest * rest / rows)
    # The largest possible effect of the rounding errors of the sums.
    if total <= rows * 2.0 ** (-51 - LEADING) * moments[2]:
        return 1.0 if squares == 0 else 0.0
    return 1 - squares / total
