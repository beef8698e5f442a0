"""The pass over the rows of some files."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.names import counted
from service.datasets.preparation.columns import WIDEST
from service.datasets.preparation.labels import LabelEncoder
from service.datasets.preparation.splits import SplitEncoder
from service.datasets.preparation.spool import Spool
from service.datasets.preparation.statistics import RunningStatistics
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from service.datasets.preparation.chosen import ChosenColumns
    from service.datasets.readers.reader import Reader


@dataclass
class Scanned:
    """The rows that were read: flat numbers of the features, labels or targets, and splits, on disk."""

    rows: int
    features: NDArray[Any]
    truth: NDArray[Any]
    splits: NDArray[Any] | None
    encoder: LabelEncoder | None
    splitter: SplitEncoder | None
    statistics: RunningStatistics | None
    of_targets: RunningStatistics | None


def scan(reader: Reader, columns: ChosenColumns, folder: Path, max_bytes: int, most_columns: int) -> Scanned:
    """Read every row, by way of files in a new folder.

    Where a column turns out to be of another kind than its first rows, nothing is stored from there on: the rows must
    be read again. Raises DatasetError for more columns of all chunks together than `most_columns`.
    """
    folder.mkdir()
    selection = columns.selection
    encoder = LabelEncoder(columns.label, selection.classes, typed=reader.typed) if columns.label is not None else None
    splitter = SplitEncoder(selection.split) if selection.split is not None else None
    statistics: RunningStatistics | None = None
    of_targets: RunningStatistics | None = None
    rows = parts = 0
    changed = False
    with (
        closing(Spool(folder / "features", np.uint8, max_bytes)) as features,
        closing(Spool(folder / "truth", np.int64 if encoder else np.float32, max_bytes)) as truth,
        closing(Spool(folder / "splits", np.uint8, max_bytes)) as splits,
    ):
        for piece in reader.read(columns.numbers, columns.categories):
            parts += max(1, piece.batch.num_columns)
            if parts > most_columns:
                raise DatasetError(
                    f"has too many parts with few rows, up to {piece.file}: {parts} columns of all parts together, and "
                    f"at most {most_columns} are read from files of this size. Fewer files and larger batches, or an "
                    "array (.npy), have fewer"
                )
            rows += piece.batch.num_rows
            if not piece.batch.num_rows:
                continue
            chunk = columns.features.chunk(piece)
            outputs = encoder.encode(piece) if encoder else columns.targets.chunk(piece, np.float32)
            changed = changed or chunk is None
            if changed or chunk is None or outputs is None:
                continue
            features.append(chunk)
            truth.append(outputs)
            if not encoder:
                of_targets = of_targets or RunningStatistics(outputs.shape[1])
                of_targets.update(outputs)
            if splitter:
                splits.append(splitter.encode(piece))
            if chunk.shape[1] > WIDEST:
                raise DatasetError(f"has rows of {chunk.shape[1]} numbers; at most {WIDEST} are read")
            statistics = statistics or RunningStatistics(chunk.shape[1])
            statistics.update(chunk)
        if rows < 2:
            raise DatasetError(f"has {counted(rows, 'row')}; at least 2 are needed")
        return Scanned(
            rows,
            features.finish(),
            truth.finish(),
            splits.finish() if splitter else None,
            encoder,
            splitter,
            statistics,
            of_targets,
        )
