"""The preparation of the rows of a table: from the numbers that a dataset stores to those that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from threading import local
from typing import TYPE_CHECKING, Self

import numpy as np

from core.arrays import Array, take
from core.tables.logarithm import log1p
from core.tables.treatments import NumberTreatment, Treatment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

# Bytes of rows, as float32 before they are prepared, that are worked on together: they and what is made of them fit
# into the level-two cache.
PIECE = 131_072

# The smallest number above -1 in float32: log(1 + x) of it is finite.
LOWEST = np.nextafter(np.float32(-1), np.float32(0))

NOWHERE = -1


@dataclass(frozen=True)
class Preparation:
    """Treatments of all columns of a dataset, in its order, and what they need of the training rows.

    fill, mean, deviation: float32, for each number of the columns of numbers, in order: what replaces a missing value,
    and what is subtracted from a value and then divides it.
    place: int32, for each column of categories the places of its categories in order, of other values, and of missing
    ones. A place is the position of the number that is 1, among those of the column, or `NOWHERE`; with "index", it is
    the index.
    """

    treatments: tuple[Treatment, ...]
    fill: Array
    mean: Array
    deviation: Array
    place: Array

    @classmethod
    def of(cls, treatments: tuple[Treatment, ...], tensors: Mapping[str, Array]) -> Self:
        """Build from treatments and `tensors`."""
        return cls(treatments, *(tensors[name] for name in ("fill", "mean", "deviation", "place")))

    @property
    def tensors(self) -> dict[str, Array]:
        """The arrays by name."""
        return {"fill": self.fill, "mean": self.mean, "deviation": self.deviation, "place": self.place}


class Preparer:
    """Prepares rows. It allocates arrays only for the first rows of a thread.

    The bits of a prepared row depend on the row alone.
    """

    def __init__(self, preparation: Preparation) -> None:
        raw_starts = _starts(treatment.column.width for treatment in preparation.treatments)
        starts = _starts(treatment.width for treatment in preparation.treatments)
        self.raw_width, self.width = raw_starts[-1], starts[-1]
        self._count = max(1, PIECE // (4 * self.raw_width))
        self._numbers = _Numbers(preparation, raw_starts, starts)
        self._categories = _Categories(preparation, raw_starts, starts, self._count)
        self._buffers = _Buffers(self._count)

    def load(self, source: Array, rows: Array, out: Array) -> None:
        """Write some rows of a table into `out`, prepared.

        source: uint8 or float32 (all rows, raw width). rows: int64 (n,), in range.
        out: float32 (n, ...), C-contiguous, with `width` numbers in a row.
        """
        out = out.reshape(len(out), self.width)  # a view
        for piece in self._pieces(len(rows)):
            raw, prepared = self._read(source, rows[piece]), out[piece]
            if self._categories.one_hot:
                prepared.fill(0)
            self._numbers.write(raw, prepared, self._buffers)
            self._categories.write(raw, prepared, self._buffers)

    def unscaled(self, source: Array, rows: Array) -> Array:
        """Return the columns of numbers of some rows before they are scaled, float32 (n, numbers)."""
        found = np.empty((len(rows), len(self._numbers.columns)), np.float32)
        for piece in self._pieces(len(rows)):
            found[piece], _ = self._numbers.unscaled(self._read(source, rows[piece]), self._buffers)
        return found

    def _pieces(self, rows: int) -> Iterator[slice]:
        for start in range(0, rows, self._count):
            yield slice(start, start + self._count)

    def _read(self, source: Array, rows: Array) -> Array:
        """Copy some rows of a table into a buffer of float32."""
        stored = self._buffers.array("stored", len(rows), self.raw_width, source.dtype)
        take(np, source, rows, stored, axis=0)
        if source.dtype == np.float32:
            return stored
        raw = self._buffers.array("raw", len(rows), self.raw_width, np.float32)
        np.copyto(raw, stored)
        return raw


class _Buffers(local):
    """A thread's buffers, by name."""

    def __init__(self, rows: int) -> None:
        self._rows, self._arrays = rows, dict[str, Array]()

    def array(self, name: str, rows: int, width: int, dtype: npt.DTypeLike) -> Array:
        """The first rows of a buffer."""
        if name not in self._arrays:
            self._arrays[name] = np.empty((self._rows, width), dtype)
        return self._arrays[name][:rows]


class _Numbers:
    """The columns of numbers: their places in raw and in prepared rows, and their steps."""

    def __init__(self, preparation: Preparation, raw_starts: list[int], starts: list[int]) -> None:
        columns, places, flagged, flags, logs = (list[int]() for _ in range(5))
        low, high = list[float](), list[float]()
        for treatment, raw_start, start in zip(preparation.treatments, raw_starts, starts, strict=False):
            if not isinstance(treatment, NumberTreatment):
                continue
            width, first = treatment.column.width, len(columns)
            columns += range(raw_start, raw_start + width)
            places += range(start, start + width)
            if treatment.has_indicator:
                flagged += range(first, first + width)
                flags += range(start + width, start + 2 * width)
            lowest, highest = treatment.clip or (-np.inf, np.inf)
            low += [lowest] * width
            high += [highest] * width
            if treatment.log:
                logs += range(first, first + width)
        self.columns, self._places = _positions(columns), _positions(places)
        self._every = len(columns) == raw_starts[-1]
        self._together = len(columns) == starts[-1]
        self._flagged, self._flags, self._logs = _positions(flagged), _positions(flags), _positions(logs)
        self._clip = (np.array(low, np.float32), np.array(high, np.float32))
        self._clips = bool(np.isfinite(self._clip).any())
        self._fill, self._mean, self._deviation = preparation.fill, preparation.mean, preparation.deviation

    def unscaled(self, raw: Array, buffers: _Buffers) -> tuple[Array, Array]:
        """The numbers (n, numbers), imputed, clipped and with their logarithms taken, and which ones were missing."""
        count = len(self.columns)
        values = raw
        if not self._every:
            values = take(np, raw, self.columns, buffers.array("numbers", len(raw), count, np.float32), axis=1)
        missing = np.isnan(values, out=buffers.array("missing", len(raw), count, np.bool_))
        np.copyto(values, self._fill, where=missing)
        if self._clips:
            low, high = self._clip
            np.maximum(values, low, out=values)
            np.minimum(values, high, out=values)
        if len(self._logs):
            self._take_logs(values, buffers)
        return values, missing

    def write(self, raw: Array, out: Array, buffers: _Buffers) -> None:
        """Write the numbers and their indicators into prepared rows."""
        if not len(self.columns):
            return
        values, missing = self.unscaled(raw, buffers)
        np.subtract(values, self._mean, out=values)
        if self._together:
            np.divide(values, self._deviation, out=out)
            return
        np.divide(values, self._deviation, out=values)
        out[:, self._places] = values
        if len(self._flags):
            flags = buffers.array("flags", len(raw), len(self._flags), np.bool_)
            out[:, self._flags] = take(np, missing, self._flagged, flags, axis=1)

    def _take_logs(self, values: Array, buffers: _Buffers) -> None:
        """Replace some columns by log(1 + x), computed in float64 and rounded once."""
        count = len(self._logs)
        short = take(np, values, self._logs, buffers.array("short", len(values), count, np.float32), axis=1)
        np.maximum(short, LOWEST, out=short)
        long = buffers.array("long", len(values), count, np.float64)
        np.copyto(long, short)
        work = [buffers.array(f"work {part}", len(values), count, np.float64) for part in range(5)]
        values[:, self._logs] = log1p(long, work)


class _Categories:
    """The columns of categories: their places in raw rows, and the number that each code sets in prepared rows."""

    def __init__(self, preparation: Preparation, raw_starts: list[int], starts: list[int], rows: int) -> None:
        columns, firsts, missing = (list[int]() for _ in range(3))
        targets, values = list[Array](), list[Array]()
        self.one_hot, first = False, 0
        for treatment, raw_start, start in zip(preparation.treatments, raw_starts, starts, strict=False):
            if isinstance(treatment, NumberTreatment):
                continue
            places = preparation.place[first : first + len(treatment.column.categories) + 2]
            columns.append(raw_start)
            firsts.append(first)
            missing.append(len(places) - 1)
            if treatment.encode == "index":
                targets.append(np.full(len(places), start))
                values.append(places)
            else:
                self.one_hot = True
                # A code that has no place sets the first number to 0, which it is in any case.
                targets.append(start + np.maximum(places.astype(np.int64), 0))
                values.append(places != NOWHERE)
            first += len(places)
        self.columns, self._firsts = _positions(columns), _positions(firsts)
        self._missing = np.array(missing, np.float32)
        self._row_starts = np.arange(rows)[:, None] * starts[-1]
        self._target = np.concatenate(targets) if targets else _positions([])
        self._value = np.concatenate(values).astype(np.float32) if values else np.zeros(0, np.float32)

    def write(self, raw: Array, out: Array, buffers: _Buffers) -> None:
        """Write the numbers of the categories into prepared rows, which are 0 where there is "one_hot"."""
        shape = len(raw), len(self.columns)
        if not shape[1]:
            return
        codes = take(np, raw, self.columns, buffers.array("codes", *shape, np.float32), axis=1)
        missing = np.isnan(codes, out=buffers.array("no codes", *shape, np.bool_))
        np.copyto(codes, self._missing, where=missing)
        entries = buffers.array("entries", *shape, np.int64)
        np.copyto(entries, codes, casting="unsafe")
        np.add(entries, self._firsts, out=entries)
        targets = take(np, self._target, entries, buffers.array("targets", *shape, np.int64))
        np.add(targets, self._row_starts[: len(raw)], out=targets)
        out.reshape(-1)[targets] = take(np, self._value, entries, buffers.array("values", *shape, np.float32))


def _starts(widths: Iterator[int]) -> list[int]:
    """Where each part begins, and where the last one ends."""
    return [0, *accumulate(widths)]


def _positions(numbers: list[int]) -> Array:
    return np.array(numbers, np.int64)
