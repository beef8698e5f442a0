"""A dataset's file that changed on the disk is not used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.workers.fixtures.helpers import blobs, flip_bytes, images
from workers.data import dataset as module
from workers.data.dataset import DatasetError, DatasetInfo, check_dataset, open_dataset, open_splits

if TYPE_CHECKING:
    from collections.abc import Iterator

DAMAGED = "damaged.*register the dataset again"


@pytest.fixture
def info(tmp_path: Path) -> DatasetInfo:
    return blobs(tmp_path)


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The digests that are computed."""
    computed: list[str] = []
    real = module.digest_of

    def digest_of(*arguments: object) -> str:
        computed.append(real(*arguments))  # type: ignore[arg-type]
        return computed[-1]

    monkeypatch.setattr(module, "digest_of", digest_of)
    return computed


def checked_long_ago(info: DatasetInfo) -> None:
    """Check a file as if that were a minute after its last change."""
    check_dataset(info)
    note = Path(info.path).with_suffix(".checked")
    later = Path(info.path).stat().st_ctime_ns + 60 * 10**9
    os.utime(note, ns=(later, later))


@pytest.mark.parametrize("column", ["features", "label", "split"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_bit_in_any_column_is_a_dataset_error(tmp_path: Path, column: str, place: str) -> None:
    parts = np.array(["train", "validation"] * 100)
    info = images(tmp_path, parts=parts)
    features, labels = open_dataset(info)
    numbers = {"features": features, "label": labels, "split": open_splits(info)}[column].tobytes()
    content = bytearray(Path(info.path).read_bytes())
    start = content.index(numbers)
    content[start + {"first": 0, "middle": len(numbers) // 2, "last": len(numbers) - 1}[place]] ^= 1
    Path(info.path).write_bytes(content)
    for use in (open_dataset, open_splits, check_dataset):
        with pytest.raises(DatasetError, match=DAMAGED):
            use(info)


def test_another_dataset_of_the_same_shape_is_a_dataset_error(tmp_path: Path, info: DatasetInfo) -> None:
    (tmp_path / "other").mkdir()
    other = blobs(tmp_path / "other", seed=2)
    Path(info.path).write_bytes(Path(other.path).read_bytes())
    with pytest.raises(DatasetError, match=DAMAGED):
        open_dataset(info)


def test_a_file_that_has_not_changed_is_read_once(info: DatasetInfo, digests: list[str]) -> None:
    checked_long_ago(info)
    for _ in range(3):
        open_dataset(info)
    assert digests == [info.digest]
    check_dataset(info, again=True)
    assert digests == [info.digest] * 2


def test_a_file_that_was_restored_is_read_again(info: DatasetInfo, digests: list[str]) -> None:
    checked_long_ago(info)
    path = Path(info.path)
    path.rename(path.with_name("backup"))
    path.write_bytes(path.with_name("backup").read_bytes())
    open_dataset(info)
    assert digests == [info.digest] * 2


@pytest.mark.parametrize("kept", ["size", "size and modification time"])
def test_a_change_after_the_check_is_noticed(info: DatasetInfo, kept: str) -> None:
    checked_long_ago(info)
    path = Path(info.path)
    before = path.stat()
    flip_bytes(path, info)
    if kept == "size and modification time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(DatasetError, match=DAMAGED):
        open_dataset(info)


def test_a_change_at_the_moment_of_the_check_is_noticed(info: DatasetInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a file system may give both the same time."""
    check_dataset(info)
    status = Path(info.path).stat()
    flip_bytes(Path(info.path), info)
    os.utime(Path(info.path).with_suffix(".checked"), ns=(status.st_ctime_ns, status.st_ctime_ns))
    monkeypatch.setattr(module.os, "fstat", lambda _: status)
    with pytest.raises(DatasetError, match=DAMAGED):
        open_dataset(info)


@pytest.mark.parametrize("note", [b"", b"{}", b"[1, 2, 3", b"\xff"])
def test_a_damaged_note_counts_as_none(info: DatasetInfo, digests: list[str], note: bytes) -> None:
    checked_long_ago(info)
    path = Path(info.path).with_suffix(".checked")
    path.write_bytes(note)
    later = Path(info.path).stat().st_ctime_ns + 60 * 10**9
    os.utime(path, ns=(later, later))
    open_dataset(info)
    assert digests == [info.digest] * 2


def test_where_no_note_can_be_written_each_use_reads_the_file(info: DatasetInfo, digests: list[str]) -> None:
    Path(info.path).with_suffix(".checked").mkdir()
    for _ in range(2):
        open_dataset(info)
    assert digests == [info.digest] * 2
    assert not list(Path(info.path).parent.glob(".*.partial"))
