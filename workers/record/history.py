"""The points of a job's metrics: recorded in arrays at every step, reported in batches, kept as Arrow files.

Every step is kept in the job's directory. The points that are reported, and so stored in the database, are thinned out
for long jobs by a rule that depends only on the length of the job.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workers.data.arrow import array_of, nulls_of, values_of
from workers.record.events import Series

# In the order of a step's values.
STEP_METRICS = (
    "train/loss",
    "train/data_loss",
    "train/reg_loss",
    "train/accuracy",
    "train/active_fraction",
    "grad/norm",
)
EPOCH_METRICS = (
    "val/loss",
    "val/hinge",
    "val/softmax",
    "val/accuracy",
    "weights/norm",
    "time/step_ms",
    "time/exchange_ms",
)
SCHEMA = pa.schema(
    [("step", pa.int64()), ("time_ms", pa.int64())] + [(name, pa.float64()) for name in STEP_METRICS + EPOCH_METRICS]
)

MOST_REPORTED = 10_000  # steps of a job
PAGE = 4096  # steps

Table: TypeAlias = pa.Table
Steps = NDArray[np.int64]


class _Page:
    """Points of `PAGE` steps, with a row for each metric; those of step `first` come first."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.values = np.empty((len(STEP_METRICS), PAGE))
        self.times = np.empty(PAGE, np.int64)


class History:
    """Points after step `start` of a job of `total_steps` steps; a job that ends early sets `last_step`."""

    def __init__(self, start: int, total_steps: int) -> None:
        self.stride = -(-total_steps // MOST_REPORTED)
        self.last_step = total_steps
        self._pages = [_Page(start + 1)]
        self._epochs: dict[int, Mapping[str, float]] = {}
        self._step = self._reported = self._kept = start

    def record_step(self, step: int, values: tuple[float, ...]) -> None:
        """Record the `STEP_METRICS` of the next step, with the time of this call."""
        page = self._pages[-1]
        column = step - page.first
        if column == PAGE:
            page, column = _Page(step), 0
            self._pages.append(page)
        page.values[:, column] = values
        page.times[column] = time.time_ns() // 1_000_000
        self._step = step

    def record_epoch(self, metrics: Mapping[str, float]) -> None:
        """Record some of the `EPOCH_METRICS` after the last step, which ended an epoch."""
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
        for name in EPOCH_METRICS:
            column, nulls = np.zeros(len(steps)), np.ones(len(steps), np.bool_)
            for step, metrics in self._epochs.items():
                if step > after and name in metrics:
                    row = step - after - 1
                    column[row], nulls[row] = metrics[name], False
            columns.append(array_of(column, nulls))
        return pa.table(columns, SCHEMA)


def is_reported(steps: Steps, stride: int, last_step: int) -> NDArray[np.bool_]:
    """Whether each of the steps of a job is reported: the first, the last, and every `stride`-th."""
    chosen: NDArray[np.bool_] = (steps % stride == 0) | (steps == 1) | (steps == last_step)
    return chosen


def thinned(table: Table, stride: int, last_step: int) -> dict[str, Series]:
    """The points of a table that are reported, by metric; all points of epochs are."""
    whole = table.combine_chunks().to_batches()[0]
    steps, times = values_of(whole.column("step")), values_of(whole.column("time_ms"))
    chosen = is_reported(steps, stride, last_step)
    series = {}
    for name in STEP_METRICS + EPOCH_METRICS:
        column = whole.column(name)
        rows = chosen if name in STEP_METRICS else ~nulls_of(column)
        if rows.any():
            series[name] = Series(steps[rows], values_of(column)[rows], times[rows])
    return series
