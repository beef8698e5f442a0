"""The points of a run's metrics, gathered in lists while it trains and handed over in batches."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from workers.events import Series


class History:
    """Points that were recorded since the last `take`."""

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[int, float, int]]] = defaultdict(list)

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of one step; all get the time of this call, which stays theirs for good."""
        now = time.time_ns() // 1_000_000
        for name, value in metrics.items():
            self._points[name].append((step, value, now))

    def take(self) -> dict[str, Series]:
        """Hand over what was recorded, and begin anew."""
        taken, self._points = self._points, defaultdict(list)
        return {
            name: Series(
                np.array([step for step, _, _ in points], np.int64),
                np.array([value for _, value, _ in points], np.float64),
                np.array([moment for _, _, moment in points], np.int64),
            )
            for name, points in taken.items()
        }
