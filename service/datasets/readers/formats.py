"""Recognition of formats by file names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from service.datasets.readers.arrow import ArrowReader
from service.datasets.readers.cifar import CifarReader
from service.datasets.readers.csv import CsvReader
from service.datasets.readers.idx import IdxReader
from service.datasets.readers.npy import NpyReader
from service.datasets.readers.parquet import ParquetReader
from service.datasets.readers.splits import COLUMN, SplitsReader
from service.datasets.readers.tables.excel import ExcelReader
from service.datasets.readers.tables.json import JsonReader
from service.datasets.readers.tables.orc import OrcReader
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from service.datasets.readers.reader import Reader

FormatName = Literal["parquet", "arrow", "csv", "json", "orc", "excel", "npy", "idx", "cifar10", "cifar100"]


class _Format(NamedTuple):
    # Only the first pattern that any file matches counts: published archives have training and test files.
    patterns: tuple[str, ...]
    reader: Callable[[Sequence[Path]], Reader]
    # Names of the training and test files, if the format defines them.
    parts: Mapping[str, str] = MappingProxyType({})


IDX_PARTS = {"train": "train-*idx?-ubyte", "test": "t10k-*idx?-ubyte"}
CIFAR10_PARTS = {"train": "data_batch_*.bin", "test": "test_batch.bin"}
CIFAR100_PARTS = {"train": "train.bin", "test": "test.bin"}


FORMATS: dict[FormatName, _Format] = {
    "parquet": _Format(("*.parquet", "*.pq"), ParquetReader),
    "arrow": _Format(("*.arrow", "*.arrows", "*.feather", "*.ipc"), ArrowReader),
    "csv": _Format(("*.csv", "*.tsv"), CsvReader),
    "json": _Format(("*.json", "*.jsonl", "*.ndjson"), JsonReader),
    "orc": _Format(("*.orc",), OrcReader),
    "excel": _Format(("*.xlsx", "*.xls", "*.xlsm", "*.xlsb", "*.ods"), ExcelReader),
    "npy": _Format(("*.npy",), NpyReader),
    "idx": _Format((IDX_PARTS["train"], "*idx?-ubyte", "*.idx"), IdxReader, IDX_PARTS),
    "cifar10": _Format(tuple(CIFAR10_PARTS.values()), lambda files: CifarReader(files, ["label"]), CIFAR10_PARTS),
    "cifar100": _Format(
        tuple(CIFAR100_PARTS.values()), lambda files: CifarReader(files, ["coarse_label", "label"]), CIFAR100_PARTS
    ),
}


def open_reader(files: Sequence[Path], name: FormatName | None, split: str | None) -> tuple[FormatName, Reader]:
    """A reader of the files of one format, in order of name: of the format `name`, or of the first that is found.

    Of training and test files it reads the training ones, or both where `split` is the column that says which is which.
    Raises DatasetError when no file is of a format, or a file is not what its format says.
    """
    for candidate in [name] if name else get_args(FormatName):
        patterns, reader, splits = FORMATS[candidate]
        in_parts = {part: _matching(files, pattern) for part, pattern in splits.items()}
        if split == COLUMN and in_parts and all(in_parts.values()):
            return candidate, SplitsReader({part: reader(found) for part, found in in_parts.items()})
        for pattern in patterns:
            if found := _matching(files, pattern):
                return candidate, reader(found)
    if name and files:
        return name, FORMATS[name].reader(sorted(files))  # with any file names
    raise DatasetError(
        f"the format of {_names(files)} is unknown; set `format`, or use a file name such as "
        f"{', '.join(one.patterns[0] for one in FORMATS.values())}"
    )


def _matching(files: Sequence[Path], pattern: str) -> list[Path]:
    return sorted(file for file in files if fnmatchcase(file.name.lower(), pattern))


def _names(files: Sequence[Path]) -> str:
    if not files:
        return "an empty folder"
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(file.name for file in files[:3]) + more
