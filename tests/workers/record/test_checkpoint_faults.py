from __future__ import annotations

import json
import os
import resource
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.fixtures.checkpoints import (
    COMPUTATION,
    FILES,
    JOB,
    LAYOUT,
    header_of,
    origin,
    place_of,
    snapshot,
    write,
)
from workers.record.checkpoint import (
    CheckpointError,
    latest,
    latest_whole,
    prune,
    read_checkpoint,
    verify,
    write_checkpoint,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.usefixtures("no_fsync")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a checkpoint of step 10."""
    directory = tmp_path_factory.mktemp("checkpoint")
    write(directory, 10)
    return {name: (place_of(directory, 10) / name).read_bytes() for name in FILES}


@contextmanager
def written(contents: dict[str, bytes]) -> Iterator[Path]:
    """A job's directory with an intact checkpoint of step 7, and the given files as the checkpoint of step 10."""
    with TemporaryDirectory() as folder:
        write(Path(folder), 7)
        place = place_of(Path(folder), 10)
        place.mkdir()
        for name, content in contents.items():
            (place / name).write_bytes(content)
        yield Path(folder)


@given(st.data())
def test_every_kind_of_damage_is_refused(contents: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES))
    whole = contents[name]
    kind = data.draw(st.sampled_from(["changed", "truncated", "longer", "zeroed", "gone"]))
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    if kind == "changed":
        damaged[position] ^= data.draw(st.integers(1, 255))
    elif kind == "truncated":
        del damaged[position:]
    elif kind == "longer":
        damaged += data.draw(st.binary(min_size=1))
    elif kind == "zeroed":  # as after a power failure, when the data was not written yet
        damaged[position:] = bytes(len(whole) - position)
    files = contents | {name: bytes(damaged)}
    if kind == "gone":
        del files[name]
    with written(files) as directory:
        found, refused = latest_whole(directory, JOB, COMPUTATION)
        if found == place_of(directory, 10):
            # The header is JSON: other spaces, or 1E-05 for 1e-05, do not change its content.
            assert name == "checkpoint.json"
            assert header_of(found) == json.loads(whole)
            return
        assert found == place_of(directory, 7)
        (message,) = refused
        assert "000000000010" in message
        assert name in message or "header" in message
        assert names(directory) == ["000000000007", "000000000010.refused"]
        with pytest.raises(CheckpointError):
            read_checkpoint(place_of(directory, 10), JOB, COMPUTATION, LAYOUT, ["velocity"])


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"3", b'"text"', b"{}", b"{", b"\xff\xfe", b'{"sha256": 1}'])
def test_an_invalid_header_is_refused(contents: dict[str, bytes], content: bytes) -> None:
    with (
        written(contents | {"checkpoint.json": content}) as directory,
        pytest.raises(CheckpointError, match="000000000010"),
    ):
        verify(place_of(directory, 10), JOB, COMPUTATION)


@settings(max_examples=30)
@given(st.sets(st.integers(1, 9), max_size=6), st.data())
def test_the_newest_intact_checkpoint_is_found_and_newer_ones_are_renamed(steps: set[int], data: st.DataObject) -> None:
    damaged = data.draw(st.sets(st.sampled_from(sorted(steps)))) if steps else set()
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        for step in steps:
            write(directory, step)
        for step in damaged:
            (place_of(directory, step) / "model.safetensors").write_bytes(b"torn")
        whole = max(steps - damaged, default=0)
        refused = sorted((step for step in damaged if step > whole), reverse=True)
        found, messages = latest_whole(directory, JOB, COMPUTATION)
        assert found == (place_of(directory, whole) if whole else None)
        assert [int(message.split()[1]) for message in messages] == refused
        # A second call reports no problem.
        assert latest_whole(directory, JOB, COMPUTATION) == (found, [])
        assert latest(directory) == found
        if steps:
            left = {f"{step:012d}" + (".refused" if step in refused else "") for step in steps}
            assert set(names(directory)) == left


def test_a_directory_without_checkpoints(tmp_path: Path) -> None:
    assert latest_whole(tmp_path / "nothing", JOB, COMPUTATION) == (None, [])
    assert latest(tmp_path / "nothing") is None


def test_the_same_step_written_twice_is_one_checkpoint(tmp_path: Path) -> None:
    digest = write(tmp_path, 10)
    before = (place_of(tmp_path, 10) / "checkpoint.json").stat().st_ino
    assert write_checkpoint(tmp_path, origin(attempt=3), LAYOUT, snapshot(10)) == digest
    assert names(tmp_path) == ["000000000010"]
    assert (place_of(tmp_path, 10) / "checkpoint.json").stat().st_ino == before


def test_a_damaged_checkpoint_is_replaced_by_one_of_the_same_step(tmp_path: Path) -> None:
    digest = write(tmp_path, 10)
    for _ in range(2):
        (place_of(tmp_path, 10) / "optimizer.safetensors").unlink()
        assert write(tmp_path, 10) == digest
        assert verify(place_of(tmp_path, 10), JOB, COMPUTATION)["params_sha256"] == digest
        assert names(tmp_path) == ["000000000010", "000000000010.refused"]


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_checkpoints_are_kept(tmp_path: Path, keep: int) -> None:
    for step in (9, 10, 100, 2):
        write(tmp_path, step)
    prune(tmp_path, keep)
    assert names(tmp_path) == [f"{step:012d}" for step in sorted((2, 9, 10, 100))[-keep:]]
    for step in sorted((2, 9, 10, 100))[-keep:]:
        verify(place_of(tmp_path, step), JOB, COMPUTATION)


@pytest.mark.parametrize("leftover", [".000000000012.1.77.partial", ".000000000009.partial"])
def test_files_of_a_killed_process_are_removed(tmp_path: Path, leftover: str) -> None:
    """It was killed while it wrote, or while it removed a step that has been written again since."""
    write(tmp_path, 9)
    write(tmp_path, 10)
    (tmp_path / "checkpoints" / leftover).mkdir()
    (tmp_path / "checkpoints" / leftover / "model.safetensors").write_bytes(b"half")
    assert latest(tmp_path) == place_of(tmp_path, 10)
    prune(tmp_path, 1)
    assert names(tmp_path) == ["000000000010"]


def fail_to_flush(patch: pytest.MonkeyPatch, failing: int) -> None:
    flushed = []

    def full(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) == failing:
            raise OSError(28, "No space left on device")

    patch.setattr(os, "fsync", full)


# Four files and their directory.
@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5])
def test_there_is_no_checkpoint_after_a_failed_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write(tmp_path, 7)
    fail_to_flush(monkeypatch, failing)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 10)
    monkeypatch.undo()
    assert_only_the_older_checkpoint(tmp_path)


def test_there_is_no_checkpoint_after_a_failed_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 7)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path, 10)
    monkeypatch.undo()
    assert_only_the_older_checkpoint(tmp_path)


@pytest.mark.parametrize("limit", [0, 1, 1000, 3000])
def test_there_is_no_checkpoint_if_a_file_is_too_large(tmp_path: Path, limit: int) -> None:
    """The operating system refuses to write files of more than `limit` bytes."""
    write(tmp_path, 7)
    largest = max(path.stat().st_size for path in place_of(tmp_path, 7).iterdir())
    assert limit < largest
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write(tmp_path, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_only_the_older_checkpoint(tmp_path)


def assert_only_the_older_checkpoint(directory: Path) -> None:
    """Assert that only the checkpoint of step 7 exists, and that the next write succeeds."""
    assert names(directory) == ["000000000007"]
    assert latest_whole(directory, JOB, COMPUTATION) == (place_of(directory, 7), [])
    digest = write(directory, 10)
    assert verify(place_of(directory, 10), JOB, COMPUTATION)["params_sha256"] == digest
    assert names(directory) == ["000000000007", "000000000010"]


def test_writing_again_succeeds_after_a_failed_flush_of_the_parent_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_flush(monkeypatch, 6)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 10)
    monkeypatch.undo()
    digest = write(tmp_path, 10)
    assert verify(place_of(tmp_path, 10), JOB, COMPUTATION)["params_sha256"] == digest
