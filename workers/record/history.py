"""The points of a job's metrics: recorded in arrays at every step, reported in batches, kept as Arrow files.

Every step is kept in the job's directory. The points that are reported, and so stored in the database, are thinned out
for long jobs by a rule that depends only on the length of the job.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workers.data.arrow import array_of, nulls_of, values_of
from workers.record.events import Series

# The first columns of a table. The others are series of float64, null at steps without a point.
STEP, TIME = pa.field("step", pa.int64()), pa.field("time_ms", pa.int64())

MOST_REPORTED = 10_000  # steps of a job
PAGE = 4096  # steps

Table: TypeAlias = pa.Table
Steps = NDArray[np.int64]


def schema_of(series: Sequence[str]) -> pa.Schema:
    """Schema of a table with these series."""
    return pa.schema([STEP, TIME, *((name, pa.float64()) for name in series)])


def has_point_each_step(series: str) -> bool:
    """Whether a series has a point for each step, and not for each epoch only."""
    return series.startswith(("train/", "grad/")) and not series.endswith("_epoch")


class _Page:
    """Points of `PAGE` steps, with a row for each series; those of step `first` come first."""

    def __init__(self, first: int, series: int) -> None:
        self.first = first
        self.values = np.empty((series, PAGE))
        self.times = np.empty(PAGE, np.int64)


class History:
    """Points after step `start` of a job of `total_steps` steps; a job that ends early sets `last_step`.

    `step_series` are the names of the series with a point for each step, `epoch_series` of those for each epoch.
    """

    def __init__(
        self, start: int, total_steps: int, *, step_series: Sequence[str], epoch_series: Sequence[str]
    ) -> None:
        self._step_series, self._epoch_series = step_series, epoch_series
        self.stride = -(-total_steps // MOST_REPORTED)
        self.last_step = total_steps
        self._pages = [_Page(start + 1, len(step_series))]
        self._epochs: dict[int, Mapping[str, float]] = {}
        self._step = self._reported = self._kept = start

    def record_step(self, step: int, values: tuple[float, ...]) -> None:
        """Record the values of the next step, in the order of their names, with the time of this call."""
        page = self._pages[-1]
        column = step - page.first
        if column == PAGE:
            page, column = _Page(step, len(self._step_series)), 0
            self._pages.append(page)
        page.values[:, column] = values
        page.times[column] = time.time_ns() // 1_000_000
        self._step = step

    def record_epoch(self, metrics: Mapping[str, float]) -> None:
        """Record points of some of the series of epochs after the last step, which ended an epoch."""
        self._epochs[self._step] = metrics

    def unreported(self) -> dict[str, Series]:
        """Return the points that were not returned before, thinned out."""
        table = self._table(self._reported)
        self._reported = self._step
        self._forget()
        return thinned(table, self.stride, self.last_step) if table.num_rows else {}

    def unkept(self) -> Table:
        """Return a row for each step that was not returned before."""
        table = self._table(self._kept)
        self._kept = self._step
        self._forget()
        return table

    def _forget(self) -> None:
        needed = min(self._reported, self._kept) + 1
        self._pages = [page for page in self._pages[:-1] if page.first + PAGE > needed] + self._pages[-1:]
        self._epochs = {step: metrics for step, metrics in self._epochs.items() if step >= needed}

    def _table(self, after: int) -> Table:
        values, times = [], []
        for page in self._pages:
            rows = slice(max(0, after + 1 - page.first), min(PAGE, self._step + 1 - page.first))
            values.append(page.values[:, rows])
            times.append(page.times[rows])
        steps = np.arange(after + 1, self._step + 1)
        columns = [array_of(column) for column in (steps, np.concatenate(times), *np.concatenate(values, axis=1))]
        for name in self._epoch_series:
            column, nulls = np.zeros(len(steps)), np.ones(len(steps), np.bool_)
            for step, metrics in self._epochs.items():
                if step > after and name in metrics:
                    row = step - after - 1
                    column[row], nulls[row] = metrics[name], False
            columns.append(array_of(column, nulls))
        return pa.table(columns, schema_of([*self._step_series, *self._epoch_series]))


def is_reported(steps: Steps, stride: int, last_step: int) -> NDArray[np.bool_]:
    """Whether each of the steps of a job is reported: the first, the last, and every `stride`-th."""
    chosen: NDArray[np.bool_] = (steps % stride == 0) | (steps == 1) | (steps == last_step)
    return chosen


def thinned(table: Table, stride: int, last_step: int) -> dict[str, Series]:
    """The points of a table that are reported, by name of their series; all points of epochs are."""
    whole = table.combine_chunks().to_batches()[0]
    steps, times = values_of(whole.column("step")), values_of(whole.column("time_ms"))
    chosen = is_reported(steps, stride, last_step)
    series = {}
    for name in whole.schema.names[2:]:
        column = whole.column(name)
        rows = ~nulls_of(column)
        if has_point_each_step(name):
            rows &= chosen
        if rows.any():
            series[name] = Series(steps[rows], values_of(column)[rows], times[rows])
    return series
