"""Files left by killed or failed registrations are removed when a service starts."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import OperationalError

from service.datasets import registration
from service.datasets.files.workspace import remove_leftovers, workspace
from service.datasets.preparation.preparation import Selection, prepare
from service.datasets.repository import is_recorded

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from service.settings import Settings
    from service.store import Database

TABLE = "a,label\n1,x\n2,y\n"

# A process that is killed before it writes the file, or after the file has its final name.
KILLED = """
import os, signal, sys
from pathlib import Path
from service.datasets.preparation import preparation
from service.datasets.files.workspace import workspace
source, directory, moment = sys.argv[1:]
if moment == "before":
    preparation.write_dataset = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with workspace(Path(directory)) as scratch:
    preparation.prepare([Path(source)], scratch, Path(directory), preparation.Selection(), max_bytes=2**30)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path / "t.csv"


def run_and_kill(source: Path, directory: Path, moment: str) -> None:
    command = [sys.executable, "-c", KILLED, str(source), str(directory), moment]
    assert subprocess.run(command, check=False).returncode == -9


def test_files_of_a_killed_process_are_removed_but_not_of_a_running_one(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    run_and_kill(source, directory, "before")
    assert [path for path in directory.rglob("*") if path.is_file()], "the process had created files"
    with workspace(directory) as alive:
        remove_leftovers(directory, lambda _: False)
        assert list(directory.iterdir()) == [alive]
    assert list(directory.iterdir()) == []


def test_an_unrecorded_file_is_removed_unless_a_registration_uses_it(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    run_and_kill(source, directory, "after")
    (file,) = directory.glob("*.arrow")
    with workspace(directory) as scratch:
        # A registration of the same content uses the existing file.
        prepare([source], scratch, directory, Selection(), max_bytes=2**30)
        remove_leftovers(directory, lambda _: False)
        assert file.exists()
    remove_leftovers(directory, lambda path: path != file)
    assert list(directory.iterdir()) == []


def test_a_recorded_file_is_kept(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    run_and_kill(source, directory, "after")
    (file,) = directory.glob("*.arrow")
    remove_leftovers(directory, lambda path: path == file)
    assert list(directory.iterdir()) == [file]


def test_a_file_that_existed_before_the_killed_process_is_kept(source: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with workspace(directory) as scratch:
        file = prepare([source], scratch, directory, Selection(), max_bytes=2**30).info.path
    run_and_kill(source, directory, "after")
    remove_leftovers(directory, lambda _: False)
    assert [str(path) for path in directory.iterdir()] == [file]


def test_a_file_is_removed_if_its_row_could_not_be_written(
    api: httpx.Client, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.allowed_roots[0] / "t.csv").write_text(TABLE)

    def lost(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, Exception("the connection is lost"), connection_invalidated=True)

    with monkeypatch.context() as patched:
        patched.setattr(registration, "add_dataset", lost)
        assert api.post("/v1/datasets", json={"name": "x", "path": "t.csv"}).status_code == 503
    assert list(settings.dataset_dir.glob("*.arrow"))
    remove_leftovers(settings.dataset_dir, partial(is_recorded, database))
    assert list(settings.dataset_dir.iterdir()) == []

    run_and_kill(settings.allowed_roots[0] / "t.csv", settings.dataset_dir, "after")
    registered = api.post("/v1/datasets", json={"name": "x", "path": "t.csv"}).json()
    remove_leftovers(settings.dataset_dir, partial(is_recorded, database))
    assert [path.stem for path in settings.dataset_dir.iterdir()] == [registered["digest"]]
