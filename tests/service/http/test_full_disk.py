"""The API while the disk is full."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from tests.fixtures.small_disk import fill, needs_mount, small_disk
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    import httpx

    from service.settings import Settings
    from service.store import Database

DETAIL = "The disk of the service is full, and nothing was stored. Try again when its operator has made space."
TABLE = b"a,b,label\n" + b"1,2,x\n3,4,y\n" * 200_000  # larger than the pieces that are written at once


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def upload(api: httpx.Client) -> httpx.Response:
    query = {"name": "x", "filename": "table.csv"}
    headers = {"Content-Type": "application/octet-stream"}
    return api.post("/v1/datasets/upload", params=query, content=TABLE, headers=headers)


def assert_full(answer: httpx.Response) -> None:
    """Assert that the answer is the problem of a full disk."""
    assert answer.status_code == 507, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Insufficient Storage",
        "status": 507,
        "detail": DETAIL,
        "instance": answer.request.url.path,
    }


@needs_mount
def test_uploads_are_refused_and_readyz_says_why(api: httpx.Client, settings: Settings) -> None:
    settings.dataset_dir.mkdir()
    with small_disk(settings.dataset_dir, mebibytes=40):
        assert api.get("/readyz").status_code == 200
        filler = settings.dataset_dir / "filler"
        fill(filler)
        assert_full(upload(api))
        assert list(settings.dataset_dir.iterdir()) == [filler], "nothing of the upload remains"
        ready = api.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        detail = "the disk of the directory datasets in the data directory is full: make space"
        assert ready.json()["components"]["disk"] == {"ready": False, "detail": detail}
        filler.unlink()
        assert api.get("/readyz").status_code == 200
        assert upload(api).status_code == 201


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_registration_that_finds_no_space_is_refused(
    api: httpx.Client,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    reading_here: None,  # noqa: ARG001
    number: int,
) -> None:
    """No space can also mean a quota, or a limit of the process."""

    def write(*_arguments: Any, **_options: Any) -> None:
        raise OSError(number, "no space")

    monkeypatch.setattr("service.datasets.tasks.prepare.prepare", write)
    (settings.allowed_roots[0] / "table.csv").write_bytes(TABLE[:1000])
    assert_full(api.post("/v1/datasets", json={"name": "x", "path": "table.csv"}))


@pytest.mark.usefixtures("digits")
def test_jobs_are_refused_while_the_database_cannot_grow(api: httpx.Client, database: Database) -> None:
    @event.listens_for(database.engine, "checkout")
    def limit(connection: Any, *_others: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes this for: as many as there are now

    for _ in range(200):  # until the pages that it has are used up
        answer = api.post("/v1/jobs", json=hinge_job())
        if answer.status_code != 201:
            break
    assert_full(answer)
    assert api.get("/v1/jobs").status_code == 200
