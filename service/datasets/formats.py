"""Which format some files have, by their names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from service.datasets.readers.arrow import ArrowReader
from service.datasets.readers.cifar import CifarReader
from service.datasets.readers.csv import CsvReader
from service.datasets.readers.idx import IdxReader
from service.datasets.readers.npy import NpyReader
from service.datasets.readers.parquet import ParquetReader
from workers.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from service.datasets.readers.reader import Reader

FormatName = Literal["parquet", "arrow", "csv", "npy", "idx", "cifar10", "cifar100"]


class _Format(NamedTuple):
    # The first one that any file has is the one that counts: the published archives hold training and test files.
    patterns: tuple[str, ...]
    reader: Callable[[Sequence[Path]], Reader]


FORMATS: dict[FormatName, _Format] = {
    "parquet": _Format(("*.parquet", "*.pq"), ParquetReader),
    "arrow": _Format(("*.arrow", "*.arrows", "*.feather", "*.ipc"), ArrowReader),
    "csv": _Format(("*.csv", "*.tsv"), CsvReader),
    "npy": _Format(("*.npy",), NpyReader),
    "idx": _Format(("train-*idx?-ubyte", "*idx?-ubyte", "*.idx"), IdxReader),
    "cifar10": _Format(("data_batch_*.bin", "test_batch.bin"), lambda files: CifarReader(files, ["label"])),
    "cifar100": _Format(("train.bin", "test.bin"), lambda files: CifarReader(files, ["coarse_label", "label"])),
}


def open_reader(files: Sequence[Path], name: FormatName | None) -> tuple[FormatName, Reader]:
    """A reader of those of `files` that are of one format, in order of name: of the format `name` or the first found.

    Raises DatasetError when no file is of a format, or a file is not what its format says.
    """
    for candidate in [name] if name else get_args(FormatName):
        patterns, reader = FORMATS[candidate]
        for pattern in patterns:
            if found := sorted(file for file in files if fnmatchcase(file.name.lower(), pattern)):
                return candidate, reader(found)
    if name and files:
        return name, FORMATS[name].reader(sorted(files))  # whatever they are called
    raise DatasetError(
        f"nothing says what format {_names(files)} has; name it in `format`, or call the file after it (such as "
        f"{', '.join(one.patterns[0] for one in FORMATS.values())})"
    )


def _names(files: Sequence[Path]) -> str:
    if not files:
        return "an empty folder"
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(file.name for file in files[:3]) + more
