"""Datasets as the service prepares them, for tests of what comes after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.datasets.files.workspace import workspace
from service.datasets.preparation.preparation import Selection, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.datasets.preparation.preparation import Prepared
    from workers.data.dataset import DatasetInfo


def prepared(files: Sequence[Path], directory: Path, selection: Selection, max_bytes: int = 2**40) -> Prepared:
    with workspace(directory) as scratch:
        return prepare(files, scratch, directory, selection, max_bytes=max_bytes)


def prepare_parquet(source: Path, directory: Path, label: str) -> DatasetInfo:
    return prepared([source], directory, Selection(label=label)).info
