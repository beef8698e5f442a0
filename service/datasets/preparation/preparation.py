"""Preparation of a dataset: one pass checks every row and stores it in the form used by training.

The type of the stored numbers follows from their values: uint8 if all numbers of all columns are integers from 0 to
255, else float32, to which all numbers are rounded. So the same content in another format is the same dataset.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from core.names import counted
from service.datasets.files.opening import file_bytes
from service.datasets.files.unpacking import Unpacker
from service.datasets.preparation.chosen import ChosenColumns
from service.datasets.preparation.class_names import published_names
from service.datasets.preparation.columns import image_shape, type_name
from service.datasets.preparation.kinds.finishing import finished
from service.datasets.preparation.kinds.left_out import left_out, mixed
from service.datasets.preparation.scanning import scan
from service.datasets.preparation.warnings import label_warnings, precision_warnings, warning
from service.datasets.preparation.writing import write_dataset
from service.datasets.readers.formats import open_reader
from service.datasets.readers.reading import NoNumbersError
from workers.data.dataset import DatasetError, DatasetInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.datasets.preparation.kinds.feature import FeatureColumn
    from service.datasets.preparation.scanning import Scanned
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

    `features` are names or patterns of columns, None for those of the format, `exclude` those that are left out, and
    `categories` those whose numbers are categories. Either `label` is the column of the class and `classes` may name
    the classes, or `targets` are names or patterns of columns with numbers to predict. `split` is the column of the
    parts, if there is one. `shape` is (height, width) or (height, width, channels) of rows that are images.
    """

    label: str | None = "label"
    features: Sequence[str] | None = None
    targets: Sequence[str] = ()
    classes: Sequence[str] | None = None
    categories: Sequence[str] = ()
    exclude: Sequence[str] = ()
    split: str | None = None
    shape: Sequence[int] | None = None
    format: FormatName | None = None


@dataclass(frozen=True)
class Prepared:
    """A dataset in its file, and a profile of its rows.

    `profile` has, as JSON, the `columns` that are features, those that are `left_out` and why, the `targets`,
    `statistics` with a number for each feature, `class_counts` with the rows of each class, `warnings` with a field of
    the request and a message each, and `recognized` with the form of the files, in words.
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
    columns = ChosenColumns(reader, selection)
    most_columns = LEAST_COLUMNS + given // BYTES_PER_COLUMN
    with _hint_at_labels(columns):
        scanned = scan(reader, columns, workspace / "first", max_bytes, most_columns)
        if columns.features.again():
            scanned = scan(reader, columns, workspace / "second", max_bytes, most_columns)
    return _written(scanned, columns, (name, reader), workspace, directory)


@contextmanager
def _hint_at_labels(columns: ChosenColumns) -> Iterator[None]:
    """Say how classes are registered, if a target is not a number."""
    try:
        yield
    except NoNumbersError as error:
        if error.column in columns.targets.names:
            raise DatasetError(f"{error}. A column of classes is named in `label` (--label)") from error
        raise


def _written(
    scanned: Scanned, columns: ChosenColumns, source: tuple[FormatName, Reader], workspace: Path, directory: Path
) -> Prepared:
    """Write what was read, and describe it."""
    format_name, reader = source
    selection, label = columns.selection, columns.label
    out = left_out(columns.features.columns, columns.named, columns.index)
    kept = [column for column in columns.features.columns if column.name not in out]
    numbers, places = finished(scanned.features, columns.features.columns, out, workspace / "finished")
    stored = tuple(stored for column in kept for stored in column.columns()) if reader.is_table else ()
    classes, order = scanned.encoder.classes() if scanned.encoder else ((), None)
    values, positions = scanned.splitter.values() if scanned.splitter else ([], None)
    counts = _renumber(scanned.truth, order, len(classes))
    statistics = None
    if scanned.statistics and len(places) <= MOST_STATISTICS:
        of_all = scanned.statistics.summary()
        statistics = {name: [values[place] for place in places] for name, values in of_all.items()}
    info = DatasetInfo(
        path="",
        digest="",
        rows=scanned.rows,
        features=len(places),
        classes=classes,
        dtype=numbers.dtype.name,
        shape=_shape(selection.shape, len(places), kept, reader),
        targets=sum(column.stored_width for column in columns.targets.columns),
        splits=dict(zip(values, _renumber(scanned.splits, positions, len(values)), strict=True)),
        columns=stored,
    )
    types = {field.name: type_name(field.type) if reader.typed else "text" for field in reader.schema}
    of_targets = scanned.of_targets.summary() if scanned.of_targets else None
    profile = {
        "columns": [column.described(types[column.name]) for column in kept],
        "left_out": [{"name": name, "reason": reason} for name, reason in columns.excluded(out).items()],
        "targets": [column.described(types[column.name]) for column in columns.targets.columns],
        "statistics": statistics and _of_numbers(statistics, kept),
        "warnings": [
            *(label_warnings(label, classes, scanned.rows) if label is not None and not selection.classes else ()),
            *(warning("features", words) for words in map(mixed, kept) if words is not None),
            *precision_warnings("features", kept, statistics),
            *precision_warnings("targets", columns.targets.columns, of_targets),
        ],
        "class_counts": counts,
        "recognized": list(reader.hints.notes),
    }
    return Prepared(
        write_dataset(info, numbers, scanned.truth, scanned.splits, workspace, directory), format_name, profile
    )


def _of_numbers(statistics: dict[str, list[float]], columns: Sequence[FeatureColumn]) -> dict[str, list[float | None]]:
    """Statistics without those of categories, whose numbers have no size."""
    are_numbers = [column.kind != "category" for column in columns for _ in range(column.stored_width)]
    return {
        name: [value if is_number else None for value, is_number in zip(values, are_numbers, strict=True)]
        for name, values in statistics.items()
    }


def _shape(
    given: Sequence[int] | None, width: int, columns: Sequence[FeatureColumn], reader: Reader
) -> tuple[int, ...] | None:
    if given is None:
        return image_shape(reader.schema.field(columns[0].name).type) if len(columns) == 1 else None
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
