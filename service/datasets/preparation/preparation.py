"""Preparation of a dataset: one pass checks every row and stores it in the form used by training.

The type of the stored numbers follows from their values: uint8 if all numbers of all columns are integers from 0 to
255, else float32, to which all numbers are rounded. So the same content in another format is the same dataset.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from core.names import counted
from service.datasets.files.opening import file_bytes
from service.datasets.files.unpacking import Unpacker
from service.datasets.preparation.class_names import published_names
from service.datasets.preparation.columns import WIDEST, choose, image_shape, listed
from service.datasets.preparation.features import FeatureColumns
from service.datasets.preparation.labels import LabelEncoder
from service.datasets.preparation.splits import SplitEncoder
from service.datasets.preparation.spool import Spool
from service.datasets.preparation.statistics import RunningStatistics
from service.datasets.preparation.warnings import label_warnings, precision_warnings
from service.datasets.preparation.writing import write_dataset
from service.datasets.readers.formats import open_reader
from service.datasets.readers.reading import NoNumbersError
from workers.data.dataset import DatasetError, DatasetInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.datasets.readers.formats import FormatName
    from service.datasets.readers.reader import Reader

CHUNK_ROWS = 1024 * 1024
# Limits in proportion to the files as they are given, since a small one can expand to very much.
EXPANSION, LEAST_BYTES = 256, 256 * 1024 * 1024
# Of columns of chunks: each costs time, however few rows it has, such as in many small files with many columns.
BYTES_PER_COLUMN, LEAST_COLUMNS = 8, 65_536
MOST_STATISTICS = 65_536  # features up to which each one's statistics are kept, since each answer has all of them


@dataclass(frozen=True)
class Selection:
    """The parts of some files that are used.

    `features` are names or patterns of columns, None for those of the format. Either `label` is the column of the class
    and `classes` may name the classes, or `targets` are names or patterns of columns with numbers to predict. `split`
    is the column of the parts, if there is one. `shape` is (height, width) or (height, width, channels) of rows that
    are images.
    """

    label: str | None = "label"
    features: Sequence[str] | None = None
    targets: Sequence[str] = ()
    classes: Sequence[str] | None = None
    split: str | None = None
    shape: Sequence[int] | None = None
    format: FormatName | None = None


@dataclass(frozen=True)
class Prepared:
    """A dataset in its file, and a profile of its rows.

    `profile` has, as JSON, the `columns` that are features, the `targets`, `statistics` with a number for each feature,
    `class_counts` with the rows of each class, and `warnings` with a field of the request and a message each.
    """

    info: DatasetInfo
    format: FormatName
    profile: dict[str, Any]


def prepare(
    files: Sequence[Path], workspace: Path, directory: Path, selection: Selection, *, max_bytes: int
) -> Prepared:
    """Check the rows of some files and write them as `directory/<digest>.arrow`, by way of a workspace there.

    Compressed files are expanded first; neither their content nor the numbers may exceed `max_bytes`, nor what is
    allowed for files of this size. Only a few chunks of rows are in memory at a time. Raises DatasetError for a file
    that cannot be read or a row that cannot be used.
    """
    given = sum(map(file_bytes, files))
    max_bytes = min(max_bytes, LEAST_BYTES + EXPANSION * given)
    unpacker = Unpacker(workspace, max_bytes, given)
    plain = [part for file in files for part in unpacker.unpack(file)]
    name, reader = open_reader(plain, selection.format, selection.split)
    if selection.classes is None:
        selection = replace(selection, classes=published_names(plain, name, selection.label))
    return _Pass(reader, name, selection, workspace, max_bytes).run(
        directory, LEAST_COLUMNS + given // BYTES_PER_COLUMN
    )


class _Pass:
    """The pass over the rows."""

    def __init__(self, reader: Reader, name: FormatName, selection: Selection, workspace: Path, max_bytes: int) -> None:
        self._reader, self._format, self._selection = reader, name, selection
        self._workspace, self._max_bytes = workspace, max_bytes
        names = reader.schema.names
        targets = choose(names, selection.targets, ()) if selection.targets else []
        self._label = None if targets else selection.label
        for what, column in (("label", self._label), ("split", selection.split)):
            if column is not None and column not in names:
                raise DatasetError(f"has no {what} column {column!r}; its columns are {listed(names)}")
        if selection.split in {*targets, self._label} - {None}:
            raise DatasetError(f"column {selection.split!r} is to be predicted; it cannot be the split column as well")
        self._categories = [column for column in (self._label, selection.split) if column is not None]
        besides = [*targets, *self._categories]
        self._features = FeatureColumns(choose(names, selection.features or [reader.features], besides))
        self._targets = FeatureColumns(targets)

    def run(self, directory: Path, most_columns: int) -> Prepared:
        """Read every row, then write the dataset. Raises DatasetError for more columns of all chunks together."""
        selection, label = self._selection, self._label
        encoder = LabelEncoder(label, selection.classes, typed=self._reader.typed) if label is not None else None
        splitter = SplitEncoder(selection.split) if selection.split is not None else None
        statistics = of_targets = None
        rows = columns = 0
        with (
            self._hint_at_labels(),
            closing(Spool(self._workspace / "features", np.uint8, self._max_bytes)) as features,
            closing(Spool(self._workspace / "labels", np.int64 if encoder else np.float32, self._max_bytes)) as labels,
            closing(Spool(self._workspace / "splits", np.uint8, self._max_bytes)) as splits,
        ):
            for piece in self._reader.read([*self._features.names, *self._targets.names], self._categories):
                columns += max(1, piece.batch.num_columns)
                if columns > most_columns:
                    raise DatasetError(
                        f"has too many parts with few rows, up to {piece.file}: {columns} columns of all parts "
                        f"together, and at most {most_columns} are read from files of this size. Fewer files and "
                        "larger batches, or an array (.npy), have fewer"
                    )
                if not piece.batch.num_rows:
                    continue
                chunk = self._features.chunk(piece)
                features.append(chunk)
                truth = encoder.encode(piece) if encoder else self._targets.chunk(piece, np.float32)
                if not encoder:
                    of_targets = of_targets or RunningStatistics(truth.shape[1])
                labels.append(truth)
                if splitter:
                    splits.append(splitter.encode(piece))
                if chunk.shape[1] > WIDEST:
                    raise DatasetError(f"has rows of {chunk.shape[1]} numbers; at most {WIDEST} are read")
                statistics = statistics or RunningStatistics(chunk.shape[1])
                statistics.update(chunk)
                if of_targets:
                    of_targets.update(truth)
                rows += piece.batch.num_rows
            if statistics is None or rows < 2:
                raise DatasetError(f"has {counted(rows, 'row')}; at least 2 are needed")
            shape = self._shape()
            classes, order = encoder.classes() if encoder else ((), None)
            values, positions = splitter.values() if splitter else ([], None)
            flat_features, flat_labels = features.finish(), labels.finish()
            flat_splits = splits.finish() if splitter else None
        summary = statistics.summary() if self._features.width <= MOST_STATISTICS else None
        counts = _renumber(flat_labels, order, len(classes))
        info = DatasetInfo(
            path="",
            digest="",
            rows=rows,
            features=self._features.width,
            classes=classes,
            dtype=flat_features.dtype.name,
            shape=shape,
            targets=self._targets.width,
            splits=dict(zip(values, _renumber(flat_splits, positions, len(values)), strict=True)),
        )
        return Prepared(
            write_dataset(info, flat_features, flat_labels, flat_splits, self._workspace, directory),
            self._format,
            {
                "columns": self._features.described(self._reader),
                "targets": self._targets.described(self._reader),
                "statistics": summary,
                "warnings": [
                    *(label_warnings(label, classes, rows) if label is not None and not selection.classes else ()),
                    *precision_warnings("features", self._features, summary),
                    *precision_warnings("targets", self._targets, of_targets.summary() if of_targets else None),
                ],
                "class_counts": counts,
            },
        )

    @contextmanager
    def _hint_at_labels(self) -> Iterator[None]:
        """Say how classes are registered, if a target is not a number."""
        try:
            yield
        except NoNumbersError as error:
            if error.column in self._targets.names:
                raise DatasetError(f"{error}. A column of classes is named in `label` (--label)") from error
            raise

    def _shape(self) -> tuple[int, ...] | None:
        width, given = self._features.width, self._selection.shape
        if given is None:
            names = self._features.names
            return image_shape(self._reader.schema.field(names[0]).type) if len(names) == 1 else None
        if len(given) < 2:
            raise DatasetError(f"an image has a height and a width, and may have channels; its shape is not {given}")
        if prod(given) != width:
            sizes = " x ".join(map(str, given))
            raise DatasetError(f"has rows of {counted(width, 'number')}; images of {sizes} need {prod(given)}")
        return (*given, 1) if len(given) == 2 else tuple(given)


def _renumber(numbers: NDArray[Any] | None, order: NDArray[Any] | None, count: int) -> list[int]:
    """Replace each row's category by its number in `order`, in place; returns the number of rows per category."""
    counts = np.zeros(count, np.int64)
    if numbers is not None and order is not None:
        for start in range(0, len(numbers), CHUNK_ROWS):
            chunk = order[numbers[start : start + CHUNK_ROWS]]
            numbers[start : start + CHUNK_ROWS] = chunk
            counts += np.bincount(chunk, minlength=count)
    found: list[int] = counts.tolist()
    return found
