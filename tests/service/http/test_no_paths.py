"""No response contains a path of the machine, whatever fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from service.jobs.recording import record_events
from service.jobs.repository import move, start_attempt
from service.jobs.states import State
from tests.service.fixtures.support import hinge_job, write_parquet
from workers.cluster.supervision import Supervision
from workers.data.dataset import DatasetError, DatasetInfo, open_dataset
from workers.machine.error_text import text_of
from workers.record.checkpoint import CheckpointError, verify
from workers.record.events import Event, Noted

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from service.settings import Settings
    from service.store import Database

    Check = Callable[[httpx.Response], None]


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # these tests do not depend on the database


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """A function that fails if a response contains a directory of the machine."""
    secrets = [str(tmp_path), os.path.realpath(tmp_path), str(Path(__file__).parents[3]), "Traceback", 'File "']

    def check(answer: httpx.Response) -> None:
        text = answer.text + json.dumps(dict(answer.headers))
        assert not [secret for secret in secrets if secret in text], text

    return check


def register(api: httpx.Client, path: str | Path, label: str = "label") -> httpx.Response:
    return api.post("/v1/datasets", json={"name": "x", "path": str(path), "label": label})


def test_datasets(api: httpx.Client, settings: Settings, tmp_path: Path, check: Check) -> None:
    uploads = settings.allowed_roots[0]
    (uploads / "folder=1").mkdir()
    write_parquet(uploads / "folder=1" / "good.parquet")
    (uploads / "text.parquet").write_text("no parquet")
    (uploads / "empty.parquet").write_bytes(b"")
    (uploads / "cut.parquet").write_bytes((uploads / "folder=1" / "good.parquet").read_bytes()[100:])
    (uploads / "out.parquet").symlink_to(tmp_path / "secret.parquet")
    (uploads / "pipe").symlink_to("/dev/null")
    kept = ["text.parquet", "empty.parquet", "cut.parquet", "out.parquet", "pipe"]
    for path in (*kept, "missing", "../x", "/etc/passwd", "x" * 3000):
        answer = register(api, path)
        assert answer.status_code == 422, path
        check(answer)
    answer = register(api, "folder=1/good.parquet", label="y")
    assert "'y'" in answer.json()["detail"]
    check(answer)
    # An absolute path is also accepted, and shown relative to the allowed root.
    for path in (uploads / "folder=1" / "good.parquet", "folder=1/good.parquet", "folder=1"):
        answer = register(api, path)
        assert answer.json()["source"] == "folder=1/good.parquet"
        assert answer.json()["features"] == 8, "the name of a folder does not become a column"
        check(answer)
    check(api.get("/v1/datasets"))
    check(api.get("/v1/datasets/x"))


def test_a_dataset_of_a_directory_that_is_no_longer_allowed(
    api: httpx.Client, settings: Settings, digits: dict[str, Any], check: Check
) -> None:
    settings.data_roots = []
    answer = api.get("/v1/datasets/digits")
    assert answer.json().items() >= digits.items()
    check(answer)


@pytest.mark.usefixtures("reading_here")
def test_a_file_without_read_permission(
    api: httpx.Client, settings: Settings, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = settings.allowed_roots[0] / "good.parquet"
    write_parquet(source)
    original_open = os.open

    def reject(path: Any, *arguments: Any, **named: Any) -> int:
        if Path(path).name == source.name:
            raise PermissionError(13, "Permission denied", str(source))
        return original_open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", reject)
    answer = register(api, "good.parquet")
    assert (answer.status_code, "Permission denied" in answer.text) == (422, True)
    check(answer)


def lost_dataset(directory: Path) -> Exception:
    with pytest.raises(DatasetError) as caught:
        open_dataset(DatasetInfo(str(directory / "gone.arrow"), "0", 1, 1, ("a", "b")))
    return caught.value


def dataset_that_is_a_directory(directory: Path) -> Exception:
    with pytest.raises(DatasetError) as caught:
        open_dataset(DatasetInfo(str(directory), "0", 1, 1, ("a", "b")))
    return caught.value


def lost_checkpoint(directory: Path) -> Exception:
    with pytest.raises(CheckpointError) as caught:
        verify(directory / "0000000001", "job_x", "0")
    return caught.value


def full_disk(directory: Path) -> Exception:
    return OSError(28, "No space left on device", str(directory / "0000000001" / "state.safetensors"))


def unexpected(directory: Path) -> Exception:
    return RuntimeError(f"something in {directory}")


@pytest.mark.parametrize(
    "fail", [lost_dataset, dataset_that_is_a_directory, lost_checkpoint, full_disk, unexpected],
    ids=lambda fail: fail.__name__,
)  # fmt: skip
@pytest.mark.usefixtures("digits")
def test_errors_that_end_a_job(
    api: httpx.Client, database: Database, tmp_path: Path, check: Check, fail: Callable[[Path], Exception]
) -> None:
    job = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    error = fail(tmp_path)
    spec, assignment = SimpleNamespace(data=SimpleNamespace(dataset="x")), SimpleNamespace(replay=None)
    owner: Any = SimpleNamespace(_spec=spec, assignment=assignment)
    events: list[Event] = [
        Noted("checkpoint_failed", {"message": text_of(full_disk(tmp_path))}),
        Supervision._meaning(owner, error),
    ]
    with database.writing() as session:
        move(session, job, from_=State.QUEUED, to=State.STARTING)
        start_attempt(session, job, "supervisor")
        record_events(session, job, 1, list(enumerate(events, 1)))
    answer = api.get(f"/v1/jobs/{job}")
    assert answer.json()["reason"] or answer.json()["restarts"]
    check(answer)
    check(api.get("/v1/jobs"))
    check(api.get(f"/v1/jobs/{job}/events"))
