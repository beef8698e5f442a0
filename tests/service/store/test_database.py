"""Behaviour that both databases must have."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from service.datasets.repository import list_datasets
from service.jobs.events import add_event, list_events
from service.jobs.repository import create_job
from service.store import database as database_module
from service.store.models import Dataset, Job
from service.store.rows import find
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    from service.store import Database


def add_job(database: Database) -> str:
    with database.writing() as session:
        return create_job(session, spec=hinge_job(), dataset={}, total_steps=1, body_sha256="b")[0].id


def add_note(database: Database, job_id: str, kind: str) -> None:
    with database.writing() as session:
        add_event(session, job_id, kind)


def test_a_reader_sees_one_snapshot(database: Database) -> None:
    job_id = add_job(database)
    with database.reading() as session:
        before = len(list_events(session, job_id, limit=10)[0])
        add_note(database, job_id, "noted")
        assert len(list_events(session, job_id, limit=10)[0]) == before
    with database.reading() as session:
        assert len(list_events(session, job_id, limit=10)[0]) == before + 1


def test_changes_in_a_reading_session_are_not_written(database: Database) -> None:
    job_id = add_job(database)
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        job.reason = "changed"
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        assert job.reason is None


def test_a_locked_job_is_read_after_the_lock_is_released(database: Database) -> None:
    """A second transaction waits for the lock and then reads the new values."""
    job_id = add_job(database)
    started, found = threading.Event(), []

    def read_it() -> None:
        started.set()
        with database.writing() as session:
            job = find(session, Job, job_id, lock=True)
            assert job is not None
            found.append(job.step)

    reader = threading.Thread(target=read_it)
    with database.writing() as session:
        job = find(session, Job, job_id, lock=True)
        assert job is not None
        reader.start()
        assert started.wait(10)
        job.step = 7
    reader.join()
    assert found == [7]


def test_an_idle_transaction_releases_its_locks(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite does not end idle transactions")
    monkeypatch.setattr(database_module, "IDLE_TIMEOUT_S", 1)
    job_id = add_job(database)
    resume = threading.Event()
    errors = []

    def stall() -> None:
        try:
            with database.writing() as session:
                job = find(session, Job, job_id, lock=True)
                assert job is not None
                stalled.set()
                resume.wait(60)
                job.step = 7
        except DBAPIError as error:
            errors.append(error)

    stalled = threading.Event()
    writer = threading.Thread(target=stall)
    writer.start()
    assert stalled.wait(10)
    with database.writing() as session:
        job = find(session, Job, job_id, lock=True)
        assert job is not None
        assert job.step == 0
    resume.set()
    writer.join()
    assert len(errors) == 1
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        assert job.step == 0


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text(st.characters() | st.sampled_from("\0\ud800"), max_size=20))
def test_any_message_can_be_written(database: Database, message: str) -> None:
    job_id = add_job(database)
    with database.writing() as session:
        add_event(session, job_id, "noted", reason=message, data={"message": message})
    with database.reading() as session:
        event = list_events(session, job_id, limit=10)[0][-1]
    assert event.data == {"message": message}
    assert event.reason is not None
    assert len(event.reason) == len(message)
    if not set(message) & {"\0", *map(chr, range(0xD800, 0xE000))}:
        assert event.reason == message


def test_datasets_are_ordered_by_name(database: Database) -> None:
    names = ["a", "B", "_", "á", "b", "-1", "0"]
    with database.writing() as session:
        for name in names:
            row = {"digest": "0", "rows": 1, "features": 1, "classes": ["a"], "dtype": "float32"}
            row |= {"targets": 0, "splits": {}, "columns": [], "format": "csv", "source": "s", "profile": {}}
            session.add(Dataset(name=name, version=1, **row))
    with database.reading() as session:
        assert [dataset.name for dataset in list_datasets(session)] == sorted(names)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/jobs/%00", 404),
        ("/v1/jobs/a%00/events", 404),
        ("/v1/jobs?experiment=%00", 200),
        ("/v1/jobs?starting_after=%00", 422),
        ("/v1/datasets/%00", 404),
    ],
)
def test_a_url_with_nul_characters(api: httpx.Client, path: str, status: int) -> None:
    assert api.get(path).status_code == status
