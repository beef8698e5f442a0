from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.fixtures.helpers import EPOCH_SERIES, STEP_SERIES
from workers.record import history_files
from workers.record.history import schema_of, thinned
from workers.record.history_files import append_history, mend_history, read_history

if TYPE_CHECKING:
    from workers.record.history import Table


SCHEMA = schema_of([*STEP_SERIES, *EPOCH_SERIES])


def rows(first: int, last: int) -> Table:
    """Points of these steps. As in training, each depends only on its step, except for the time."""
    steps = list(range(first, last + 1))
    columns = {"step": steps, "time_ms": [1000 * first + step for step in steps]}
    columns |= {name: [step + index / 10 for step in steps] for index, name in enumerate(STEP_SERIES)}
    columns |= {name: [step / 7 if step % 7 == 0 else None for step in steps] for name in EPOCH_SERIES}
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA)


def without_times(table: Table) -> Table:
    return table.drop_columns(["time_ms"])


def rows_of(table: Table) -> list[dict[str, float | None]]:
    return without_times(table).to_pylist()


def name_of(steps: str, content: bytes) -> str:
    return f"{steps}.{hashlib.sha256(content).hexdigest()[:32]}.arrow"


def steps_of_files(directory: Path) -> list[str]:
    """The steps in the names of the files, which also have the digests of their contents."""
    found = sorted((directory / "history").iterdir())
    steps = [path.name.partition(".")[0] for path in found]
    assert [path.name for path in found] == [
        name_of(each, path.read_bytes()) for each, path in zip(steps, found, strict=True)
    ]
    return steps


def test_an_empty_table_is_not_written(tmp_path: Path) -> None:
    append_history(tmp_path, SCHEMA.empty_table())
    assert list(tmp_path.iterdir()) == []
    assert read_history(tmp_path) == schema_of([]).empty_table()


def test_the_files_are_arrow_files(tmp_path: Path) -> None:
    append_history(tmp_path, rows(1, 20))
    assert steps_of_files(tmp_path) == ["000000000001-000000000020"]
    (path,) = (tmp_path / "history").iterdir()
    with pa.ipc.open_file(path) as reader:
        assert reader.read_all() == rows(1, 20)


pytestmark = pytest.mark.usefixtures("no_fsync")


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=8), st.sampled_from([0, 6000, 1 << 20]))
def test_each_step_is_read_once(attempts: list[tuple[int, int]], small_file: int) -> None:
    """Each attempt appends `length` steps, beginning after any step that was written before."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_files, "SMALL_FILE", small_file)
        directory, last = Path(folder), 0
        for length, back in attempts:
            first = max(0, last - back) + 1
            append_history(directory, rows(first, first + length - 1))
            last = max(last, first + length - 1)
        assert rows_of(read_history(directory)) == rows_of(rows(1, last))
        for after, upto in [(0, last), (3, last - 1), (last // 2, last // 2 + 5), (last, last)]:
            expected = rows(after + 1, min(upto, last))
            assert rows_of(read_history(directory, after=after, upto=upto)) == rows_of(expected)


def test_a_point_that_was_computed_again_keeps_its_first_time(tmp_path: Path) -> None:
    append_history(tmp_path, rows(1, 10))
    append_history(tmp_path, rows(6, 20))
    times = read_history(tmp_path).column("time_ms").to_pylist()
    assert times == [1000 + step for step in range(1, 11)] + [6000 + step for step in range(11, 21)]


def test_small_files_are_merged_and_large_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 30):
        append_history(tmp_path, rows(step, step))
    assert steps_of_files(tmp_path) == ["000000000001-000000000029"]
    monkeypatch.setattr(history_files, "SMALL_FILE", 1)
    append_history(tmp_path, rows(30, 40))
    assert steps_of_files(tmp_path) == ["000000000001-000000000029", "000000000030-000000000040"]
    assert without_times(read_history(tmp_path)) == without_times(rows(1, 40))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_does_not_change_existing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    append_history(tmp_path, rows(1, 10))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        append_history(tmp_path, rows(11, 20))
    monkeypatch.undo()
    assert steps_of_files(tmp_path) == ["000000000001-000000000010"]
    append_history(tmp_path, rows(11, 20))
    assert without_times(read_history(tmp_path)) == without_times(rows(1, 20))
    assert steps_of_files(tmp_path) == ["000000000001-000000000020"]


def test_a_process_killed_between_writing_and_removing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_history(tmp_path, rows(1, 10))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    append_history(tmp_path, rows(11, 20))
    monkeypatch.undo()
    assert steps_of_files(tmp_path) == ["000000000001-000000000010", "000000000001-000000000020"]
    append_history(tmp_path, rows(21, 30))
    assert read_history(tmp_path).column("step").to_pylist() == list(range(1, 31))


@given(st.data())
def test_a_truncated_file_is_named(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        append_history(Path(folder), rows(1, 20))
        (path,) = (Path(folder) / "history").iterdir()
        path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])
        with pytest.raises(OSError, match="000000000001-000000000020"):
            read_history(Path(folder))


def test_points_that_were_computed_again_replace_those_of_the_same_steps(tmp_path: Path) -> None:
    append_history(tmp_path, rows(1, 10))
    again = rows(1, 10).set_column(1, SCHEMA.field("time_ms"), pa.array([9.0] * 10, SCHEMA.field("time_ms").type))
    append_history(tmp_path, again)
    assert steps_of_files(tmp_path) == ["000000000001-000000000010"]
    assert read_history(tmp_path) == again


@given(st.data(), st.integers(1, 255))
def test_a_damaged_file_is_named(data: st.DataObject, flip: int) -> None:
    with TemporaryDirectory() as folder:
        append_history(Path(folder), rows(1, 20))
        (path,) = (Path(folder) / "history").iterdir()
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= flip
        path.write_bytes(content)
        with pytest.raises(OSError, match=path.name):
            read_history(Path(folder))


@pytest.mark.parametrize("flawed", ["name", "schema"])
def test_a_file_with_another_name_or_schema_is_named(tmp_path: Path, flawed: str) -> None:
    append_history(tmp_path, rows(1, 20))
    (path,) = (tmp_path / "history").iterdir()
    if flawed == "name":
        path = path.rename(path.with_name(name_of("000000000001-000000000021", path.read_bytes())))
    else:
        renamed = rows(1, 20).rename_columns(["steps", *SCHEMA.names[1:]])
        with pa.ipc.new_file(path, renamed.schema) as writer:
            writer.write_table(renamed)
        path = path.rename(path.with_name(name_of("000000000001-000000000020", path.read_bytes())))
    with pytest.raises(OSError, match=f"{path.name} is damaged"):
        read_history(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "history" / "000000000001-000000000020.arrow").mkdir(parents=True)
    with pytest.raises(OSError, match=r"000000000001-000000000020\.arrow cannot be read"):
        read_history(tmp_path)


@pytest.mark.parametrize("small_file", [0, 1 << 20])
def test_files_of_a_version_with_other_metrics_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: int
) -> None:
    """A series has no points in the files of a version that does not have it."""
    monkeypatch.setattr(history_files, "SMALL_FILE", small_file)
    old = rows(1, 14).drop_columns(["val/hinge", "train/loss_epoch"])
    append_history(tmp_path, old.append_column("val/former", pa.array([0.5] * 14)))
    append_history(tmp_path, rows(15, 28))
    found = read_history(tmp_path)
    assert found.column("step").to_pylist() == list(range(1, 29))
    assert found.column("train/loss").to_pylist() == rows(1, 28).column("train/loss").to_pylist()
    assert found.column("val/hinge").to_pylist() == [None] * 20 + [3.0] + [None] * 6 + [4.0]
    assert found.column("val/former").to_pylist() == [0.5] * 14 + [None] * 14
    reported = thinned(found, 5, 28)
    assert reported["val/hinge"].steps.tolist() == [21, 28]
    assert reported["train/loss"].steps.tolist() == [1, 5, 10, 15, 20, 25, 28]


@pytest.mark.parametrize("how", ["damaged", "deleted"])
def test_missing_points_are_named_and_damaged_files_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(history_files, "SMALL_FILE", 0)
    for first in (1, 11, 21):
        append_history(tmp_path, rows(first, first + 9))
    assert mend_history(tmp_path, 30) is None
    middle = sorted((tmp_path / "history").iterdir())[1]
    if how == "deleted":
        middle.unlink()
    else:
        middle.write_bytes(middle.read_bytes()[:-1] + b"x")
    assert mend_history(tmp_path, 35) == (
        "the points of steps 11 to 20, 31 to 35 are missing in the history files: damaged or deleted"
    )
    append_history(tmp_path, rows(31, 40))
    steps = read_history(tmp_path).column("step").to_pylist()
    assert steps == [*range(1, 11), *range(21, 41)]
