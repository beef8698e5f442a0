"""A process that is stopped in the middle of a transaction keeps no lock, neither the lease nor that of a row."""

from __future__ import annotations

import os
import select as select_module
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from service.jobs.actions import apply_action
from service.jobs.repository import create_job, move, record_result, start_attempt
from service.jobs.states import Action, State
from service.processes import die_with_parent
from service.scheduling import leadership as leadership_module
from service.scheduling.leadership import Leadership
from service.settings import Settings
from service.store import Database, lease, migrate
from service.store import database as database_module
from service.store.database import is_unavailable
from service.store.lease import FencedDatabase, Term, read_lease, take_over
from service.store.migrate import MIGRATION_LOCK
from service.store.models import Job, Metric
from service.store.rows import find
from service.store.stalled import end_stalled
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.leases import take
from tests.service.fixtures.support import hinge_job, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from service.store.lease import LeaseState

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).parents[1] / "fakes" / "stopped_writer.py"
MOMENTS = ["before begin", "after begin", "after the check", "in executemany", "in an answer", "before commit"]
HOLDING = MOMENTS[2:]  # moments at which the writer holds locks


@pytest.fixture
def database_kind() -> str:
    return "postgresql"


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this process has a short timeout: the server does not end the other's transactions for it."""
    monkeypatch.setattr(database_module, "IDLE_TIMEOUT_S", 1)
    for module in (lease, leadership_module):
        monkeypatch.setattr(module, "LEASE", 1.0)
    monkeypatch.setattr(leadership_module, "LOOK", 0.05)
    monkeypatch.setattr(leadership_module, "RENEWAL", 0.2)


@pytest.fixture
def job_id(database: Database) -> str:
    """A job that runs."""
    with database.writing() as session:
        job = create_job(session, spec=hinge_job(), dataset={}, total_steps=9, body_sha256="b")[0]
        attempt = start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        move(session, job.id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
        return job.id


class StoppedWriter:
    """A process that has stopped at a moment of its transaction."""

    def __init__(self, database_url: str, moment: str, token: int | None, job_id: str) -> None:
        arguments = [database_url, moment, "" if token is None else str(token), job_id]
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            preexec_fn=die_with_parent,  # noqa: PLW1509  takes no lock that another thread could hold
        )
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the process stops at the moment"

    def resume(self) -> str:
        """Let it go on to its end; return what it prints."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """Kill it if it has not ended."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def stopped(settings: Settings, moment: str, token: int | None, job_id: str) -> Iterator[StoppedWriter]:
    writer = StoppedWriter(settings.database, moment, token, job_id)
    try:
        yield writer
    finally:
        writer.close()


def written(database: Database, job_id: str) -> tuple[str | None, int]:
    """What the stopped process would have written: the digest of the job, and the number of points."""
    with database.reading() as session:
        points = session.scalar(select(func.count()).select_from(Metric)) or 0
        return session.get_one(Job, job_id).params_sha256, points


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_lease_of_a_stopped_leader_is_taken(
    database: Database, settings: Settings, job_id: str, moment: str
) -> None:
    with stopped(settings, moment, take(database, "the stopped process").token, job_id) as writer:
        term = Leadership(database, settings, FakeCluster())._campaign()
        assert term is not None
        successor = FencedDatabase(database, Term(database, term.token, time.monotonic() + 1000))
        with successor.writing() as session:
            assert record_result(session, job_id, 1, params_sha256="in time")
        assert writer.resume() in {"LeaseLostError", "OperationalError", "InternalError"}
        assert written(database, job_id) == ("in time", 0)


@contextmanager
def watching(database: Database, settings: Settings, *, leads: bool) -> Iterator[None]:
    """A process that leads, or stands by, but schedules nothing."""
    leadership = Leadership(database, settings, FakeCluster())
    term = leadership._campaign() if leads else take(database, "elsewhere")

    def watch() -> None:
        if leads:
            assert term is not None
            leadership._renew(term)
        else:
            leadership._campaign()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        leadership._stopping.set()
        thread.join()


@pytest.mark.parametrize("moment", HOLDING[1:])
@pytest.mark.parametrize("leads", [True, False], ids=["leader", "standby"])
def test_a_stopped_api_does_not_keep_a_job(
    database: Database, settings: Settings, job_id: str, moment: str, leads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader and a process that stands by end the transaction, so that others can write to the job."""
    for module in (lease, leadership_module):
        monkeypatch.setattr(module, "LEASE", 1000.0)
    with stopped(settings, moment, None, job_id) as writer:
        with watching(database, settings, leads=leads), database.writing() as session:
            assert apply_action(session, job_id, Action.CANCEL)
        assert writer.resume() in {"OperationalError", "InternalError"}
    assert written(database, job_id) == (None, 0)


def test_the_lease_is_taken_where_no_session_may_be_ended(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator may have revoked the right."""
    monkeypatch.setattr(
        "service.store.stalled.END_STALLED", text("SELECT pid, no_such_function(:seconds) FROM pg_stat_activity")
    )
    take(database, "a process that has died")
    leadership = Leadership(database, settings, FakeCluster())
    term = leadership._campaign()
    assert term is not None
    term.renew()
    renewals = renewals_of(database)
    renewing = threading.Thread(target=leadership._renew, args=[term])
    renewing.start()
    try:
        wait_until(lambda: renewals_of(database) > renewals, "a renewal")
    finally:
        leadership._stopping.set()
        renewing.join()


def renewals_of(database: Database) -> int:
    with database.reading() as session:
        return read_lease(session).renewals


def test_transactions_that_go_on_are_not_ended(database: Database, job_id: str) -> None:
    """Neither one that waits for a lock, nor one whose process has just sent something."""
    with database.writing() as session:
        find(session, Job, job_id, lock=True)
        waiting = threading.Thread(target=cancel, args=[database, job_id])
        waiting.start()
        wait_until(lambda: waiting_locks(database), "the other transaction waits")
        with database.reading() as watching:
            assert end_stalled(watching) == []
    waiting.join()
    with database.reading() as session:
        assert session.get_one(Job, job_id).state == State.CANCELLING


def cancel(database: Database, job_id: str) -> None:
    with database.writing() as session:
        apply_action(session, job_id, Action.CANCEL)


def waiting_locks(database: Database) -> int:
    with database.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())


def test_a_lock_is_not_awaited_for_ever(database: Database, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that does something is not ended: a session that waits for its locks gives up."""
    monkeypatch.setitem(database_module.SERVER_TIMEOUTS, "lock_timeout", "100ms")
    impatient = Database(database.engine.url.render_as_string(hide_password=False))
    with database.writing() as session:
        find(session, Job, job_id, lock=True)
        with pytest.raises(OperationalError, match="lock timeout"):
            cancel(impatient, job_id)
    impatient.close()


def test_a_migration_does_not_wait_for_ever_for_another(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database_module.SERVER_TIMEOUTS, "lock_timeout", "100ms")
    with database.writing() as session:
        session.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        with pytest.raises(OperationalError, match="lock timeout"):
            migrate(settings.database)
    migrate(settings.database)


def test_both_ends_of_a_connection_detect_a_lost_peer(database: Database) -> None:
    wanted = {"tcp_user_timeout": "10000", "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2"}
    with database.engine.connect() as connection:
        for name, value in wanted.items():
            assert connection.exec_driver_sql(f"SHOW {name}").scalar_one() == value
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=os.dup(driver.fileno())) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5


def test_a_lost_transaction_means_that_the_database_was_unavailable(database: Database, job_id: str) -> None:
    """The API answers 503, not 500, when its process was stopped for a while."""
    with pytest.raises(DBAPIError) as lost:
        lose_the_session(database, job_id)
    assert is_unavailable(lost.value)


def lose_the_session(database: Database, job_id: str) -> None:
    with database.writing() as session:
        find(session, Job, job_id, lock=True)
        wait_until_ended(session)
        session.get_one(Job, job_id, populate_existing=True)


def wait_until_ended(session: Session) -> None:
    """Do nothing until the server ends the session."""
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
    driver = session.connection().connection.driver_connection
    assert driver is not None
    assert select_module.select([driver.fileno()], [], [], 20)[0], "the server has ended the session"


def test_a_candidate_that_was_stopped_for_a_while_tries_again(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def stopped_at_first(session: Session, seen: LeaseState, holder: str) -> int | None:
        token = take_over(session, seen, holder)
        tries.append(token)
        if len(tries) == 1:
            wait_until_ended(session)
        return token

    monkeypatch.setattr(leadership_module, "take_over", stopped_at_first)
    term = Leadership(database, settings, FakeCluster())._campaign()
    assert term is not None
    assert tries == [term.token, term.token]
