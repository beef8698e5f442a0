from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.fixtures.checkpoints import LAYOUT, origin, place_of, snapshot
from tests.workers.fixtures.helpers import STEP_SERIES, history_of
from workers.job.spec import CheckpointsSpec
from workers.record import checkpoint_writer
from workers.record.checkpoint import params_sha256, state_sha256
from workers.record.checkpoint_writer import CheckpointWriter, DueDates
from workers.record.events import Checkpointed, Event, Noted
from workers.record.history_files import read_history

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.record.history import Table

pytestmark = pytest.mark.usefixtures("no_fsync")


def due_steps(checkpoints: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps after which a checkpoint is due. A step takes one second, and an epoch has seven steps."""
    now = [1000.0]
    monkeypatch.setattr(checkpoint_writer.time, "monotonic", lambda: now[0])
    dates, due = DueDates(CheckpointsSpec(**checkpoints), 7), []
    for step in range(1, steps + 1):
        now[0] += 1
        if dates.due(step):
            due.append(step)
    return due


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [
        ({}, []),
        ({"every_steps": 4}, [4, 8, 12, 16, 20]),
        ({"every_epochs": 1}, [7, 14]),
        ({"every_epochs": 2}, [14]),
        ({"every_epochs": 1, "every_steps": 5}, [5, 7, 10, 14, 15, 20]),
        ({"every_seconds": 3.5}, [4, 8, 12, 16, 20]),
        ({"every_seconds": 0.5}, list(range(1, 21))),
        # The time is measured from the last checkpoint.
        ({"every_seconds": 5.0, "every_epochs": 1}, [5, 7, 12, 14, 19]),
    ],
    ids=str,
)
def test_when_checkpoints_are_due(
    monkeypatch: pytest.MonkeyPatch, checkpoints: dict[str, Any], expected: list[int]
) -> None:
    assert due_steps(checkpoints, 20, monkeypatch) == expected


def points(first: int, last: int) -> Table:
    history = history_of(first - 1, 100)
    for step in range(first, last + 1):
        history.record_step(step, (float(step),) * len(STEP_SERIES))
    return history.unkept()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def writer(tmp_path: Path, events: list[Event]) -> Iterator[CheckpointWriter]:
    writer = CheckpointWriter(tmp_path, origin(), LAYOUT, keep=2, report=events.append)
    yield writer
    writer.close()


def checkpointed(*steps: int) -> list[Event]:
    return [
        Checkpointed(step, params_sha256(LAYOUT, snapshot(step).parameters), state_sha256(LAYOUT, snapshot(step)))
        for step in steps
    ]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def test_checkpoints_are_written_one_after_another(
    tmp_path: Path, writer: CheckpointWriter, events: list[Event]
) -> None:
    for step in (5, 10, 15):
        writer.write(snapshot(step), points(step - 4, step))
    writer.write_last(snapshot(17), points(16, 17))
    assert events == checkpointed(5, 10, 15, 17)
    assert names(tmp_path) == ["000000000015", "000000000017"]
    assert read_history(tmp_path).column("step").to_pylist() == list(range(1, 18))


def test_training_continues_while_a_checkpoint_is_written(
    writer: CheckpointWriter, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    release, write = threading.Event(), checkpoint_writer.write_checkpoint

    def slow(*args: Any) -> str:
        assert release.wait(50)
        return write(*args)

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", slow)
    writer.write(snapshot(5), points(1, 5))
    assert events == []
    release.set()
    writer.close()
    assert events == checkpointed(5)


class Disk:
    """Replaces a function that writes: its first `refusals` calls fail as on a full disk."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, refusals: int) -> None:
        self.left, self._function = refusals, getattr(checkpoint_writer, name)
        patch.setattr(checkpoint_writer, name, self)

    def __call__(self, *args: Any) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._function(*args)


FULL = "No space left on device"


@pytest.mark.parametrize("refused", ["write_checkpoint", "append_history"])
def test_a_full_disk_is_reported_and_nothing_is_lost(
    tmp_path: Path, writer: CheckpointWriter, events: list[Event], monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    Disk(monkeypatch, refused, 2)
    for step in (5, 10, 15):
        writer.write(snapshot(step), points(step - 4, step))
    writer.close()
    noted = [Noted("checkpoint_failed", {"step": step, "message": FULL}) for step in (5, 10)]
    assert events == [*noted, *checkpointed(15)]
    assert read_history(tmp_path).column("step").to_pylist() == list(range(1, 16))
    assert names(tmp_path) == ["000000000015"]


def test_the_last_checkpoint_waits_for_the_disk(
    tmp_path: Path, writer: CheckpointWriter, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "RETRY_WAIT", 0.001)
    Disk(monkeypatch, "write_checkpoint", 4)
    writer.write_last(snapshot(5), points(1, 5))
    # The failure is reported once.
    assert events == [Noted("checkpoint_failed", {"step": 5, "message": FULL}), *checkpointed(5)]
    assert place_of(tmp_path, 5).is_dir()
    assert read_history(tmp_path).num_rows == 5


def test_the_last_checkpoint_does_not_wait_forever(
    writer: CheckpointWriter, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "RETRY_WAIT", 0.001)
    monkeypatch.setattr(checkpoint_writer, "PATIENCE", 0.01)
    disk = Disk(monkeypatch, "write_checkpoint", 1_000_000)
    with pytest.raises(OSError, match="No space left"):
        writer.write_last(snapshot(5), points(1, 5))
    assert 1_000_000 - disk.left > 1
    assert len(events) == 1


def test_an_unexpected_error_ends_training(writer: CheckpointWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", broken)
    writer.write(snapshot(5), points(1, 5))
    with pytest.raises(RuntimeError, match="a mistake"):
        writer.write(snapshot(10), points(6, 10))
