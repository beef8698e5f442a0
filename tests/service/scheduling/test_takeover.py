"""How soon another process takes over: whatever the sessions, the threads and the history of both processes are."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from service.jobs.repository import create_job, record_result
from service.scheduling import leadership as leadership_module
from service.scheduling.leadership import Leadership
from service.settings import Settings
from service.store import Database, lease
from service.store import database as database_module
from service.store.lease import FencedDatabase, Term
from service.store.models import Job
from service.store.models import Lease as Row
from service.store.rows import find
from service.store.stalled import end_stalled
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.leases import take
from tests.service.fixtures.support import hinge_job, wait_until
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)
DATASET = {"digest": "00", "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url)


@pytest.fixture(autouse=True)
def long_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a test waits for may depend on how long a process has watched another."""
    for module in (lease, leadership_module):
        monkeypatch.setattr(module, "LEASE", 1000.0)
    monkeypatch.setattr(leadership_module, "LOOK", 0.05)
    monkeypatch.setattr(leadership_module, "RENEWAL", 0.2)


@pytest.fixture
def other(database: Database) -> Iterator[Database]:
    """The database as another process uses it."""
    other = Database(database.engine.url.render_as_string(hide_password=False))
    yield other
    other.close()


def expire(database: Database) -> None:
    """Let the last renewal be longer ago than a lease lasts."""
    with database.writing() as session:
        session.execute(update(Row).values(renewed_at=Row.renewed_at - 2000))


def add_job(database: Database) -> str:
    spec = JobSpec.model_validate(hinge_job()).model_dump(mode="json")
    with database.writing() as session:
        return create_job(session, spec=spec, dataset=DATASET, total_steps=9, body_sha256="b")[0].id


def test_a_new_candidate_does_not_wait_for_a_lease_that_has_expired(database: Database, settings: Settings) -> None:
    take(database, "a process that has died")
    expire(database)
    term = Leadership(database, settings, FakeCluster())._campaign()
    assert term is not None
    assert term.token == 2


def test_a_new_candidate_waits_for_a_lease_that_was_renewed(database: Database, settings: Settings) -> None:
    holder = take(database, "a process that leads")
    expire(database)
    holder.renew()
    candidate = Leadership(database, settings, FakeCluster())
    found: list[Term | None] = []
    thread = threading.Thread(target=lambda: found.append(candidate._campaign()))
    thread.start()
    thread.join(1)  # about twenty looks
    candidate._stopping.set()
    thread.join()
    assert found == [None]


@contextmanager
def stopped_sessions(
    database: Database, stopped: Database, second: Database | FencedDatabase
) -> Iterator[list[DBAPIError]]:
    """Two sessions of a process: one has locked a job and does nothing, the other one waits for the job.

    The list has the errors that end them.
    """
    job_id = add_job(database)
    errors: list[DBAPIError] = []
    locked, resumed = threading.Event(), threading.Event()

    def hold() -> None:
        with stopped.writing() as session:
            find(session, Job, job_id, lock=True)
            locked.set()
            assert resumed.wait(30)
            record_result(session, job_id, 1, params_sha256="too late")

    def wait() -> None:
        assert locked.wait(30)
        with second.writing() as session:
            find(session, Job, job_id, lock=True)
            record_result(session, job_id, 1, params_sha256="too late")

    def lose(write: Callable[[], None]) -> None:
        try:
            write()
        except DBAPIError as error:
            errors.append(error)

    threads = [threading.Thread(target=lose, args=[write]) for write in (hold, wait)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: waiting_locks(database), "the second session waits for the first one")
        yield errors
    finally:
        resumed.set()
        for thread in threads:
            thread.join()
    with database.reading() as session:
        assert session.get_one(Job, job_id).params_sha256 is None


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_sessions_of_a_holder_that_wait_for_each_other_delay_nothing(
    database: Database, other: Database, settings: Settings
) -> None:
    """The one that waits has locked the lease as well. Both are ended when the lease expires."""
    fenced = FencedDatabase(other, take(other, f"host:1:{other.name}"))
    with stopped_sessions(database, other, fenced) as errors:
        expire(database)
        assert Leadership(database, settings, FakeCluster())._campaign() is not None
    assert len(errors) == 2


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_stopped_process_loses_its_waiting_sessions_with_the_stalled_one(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise they would get the lock and keep it until they count as stalled, too."""
    with stopped_sessions(database, other, other) as errors:
        monkeypatch.setattr(database_module, "IDLE_TIMEOUT_S", 0)
        with database.reading() as watching:
            assert len(end_stalled(watching)) == 2
    assert len(errors) == 2


def waiting_locks(database: Database) -> int:
    with database.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())


def test_a_process_that_steps_down_leads_again_while_its_supervisors_do_not_answer(
    database: Database, settings: Settings, cluster: FakeCluster
) -> None:
    """It was stopped, and another process took over and was stopped as well."""
    add_job(database)
    cluster.silent = True
    leadership = Leadership(database, settings, cluster)
    leadership.start()
    try:
        wait_until(lambda: cluster.attempts and cluster.attempts[0].polled, "the attempt is followed")
        successor = take(database, "another process")
        expire(database)
        wait_until(lambda: leadership._term is not None and leadership._term.token > successor.token, "its next term")
        assert leadership.scheduler.find() is not None
    finally:
        leadership.stop()


def test_stalled_transactions_are_ended_while_old_work_ends(
    database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old work may wait for their locks."""
    looks: list[int] = []
    leadership = Leadership(database, settings, cluster)
    ended = threading.Event()
    stop = leadership_module.Scheduler.stop

    def slow_stop(scheduler: leadership_module.Scheduler) -> None:
        stop(scheduler)
        looks.clear()
        assert ended.wait(30)

    monkeypatch.setattr(leadership_module, "end_stalled", lambda _: looks.append(1) or [])
    monkeypatch.setattr(leadership_module.Scheduler, "stop", slow_stop)
    leadership.start()
    wait_until(leadership.scheduler.find, "it leads")
    take(database, "another process")
    try:
        wait_until(lambda: leadership.scheduler.find() is None and len(looks) > 2, "looks for stalled transactions")
    finally:
        ended.set()
        leadership.stop()
