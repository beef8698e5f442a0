"""Several processes with one database: one leads, another takes over, and a former leader does nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.pool import QueuePool

from service.jobs.repository import create_job
from service.jobs.states import State
from service.processes import die_with_parent
from service.scheduling import leadership as leadership_module
from service.scheduling.leadership import Leadership
from service.settings import Settings
from service.store import lease
from service.store.lease import LeaseState, read_lease
from service.store.models import Job
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.support import hinge_job, wait_until
from workers.job.spec import JobSpec, ResourcesSpec
from workers.record.events import Ended, Started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.store import Database

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).parents[1] / "fakes" / "leader.py"
DATASET = {"digest": "00", "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}
STARTED = Started(step=0, workers=2, fingerprint={}, changed={})
SUCCEEDED = Ended("succeeded", "completed")


def leads(leadership: Leadership) -> bool:
    return leadership.scheduler.find() is not None


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url)


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short leases, so that tests are fast, but long enough for renewals on a busy machine."""
    for module in (lease, leadership_module):
        monkeypatch.setattr(module, "LEASE", 3.0)
    monkeypatch.setattr(leadership_module, "RENEWAL", 0.3)
    monkeypatch.setattr(leadership_module, "LOOK", 0.05)


@pytest.fixture
def long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that do not expire during a test."""
    for module in (lease, leadership_module):
        monkeypatch.setattr(module, "LEASE", 1000.0)


@contextmanager
def candidate(
    database: Database, settings: Settings, cluster: FakeCluster, *, alone: bool = False
) -> Iterator[Leadership]:
    leadership = Leadership(database, settings, cluster, alone=alone)
    leadership.start()
    try:
        yield leadership
    finally:
        leadership.stop()


class Process:
    """A process that runs `PROGRAM`. `output` has the lines that it prints."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, settings.database, settings.data_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            preexec_fn=die_with_parent,  # noqa: PLW1509  takes no lock that another thread could hold
        )
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.output.extend(line.strip() for line in self._process.stdout)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """Close its input, which stops it, and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def other(settings: Settings, database: Database) -> Iterator[Process]:
    """Another process that leads."""
    process = Process(settings)
    try:
        wait_until(lambda: state_of(database).renewals, "the other process leads")
        yield process
    finally:
        process.send(signal.SIGCONT)
        process.end()


def state_of(database: Database) -> LeaseState:
    with database.reading() as session:
        return read_lease(session)


def add_job(database: Database) -> str:
    spec = JobSpec.model_validate(hinge_job()).model_dump(mode="json")
    with database.writing() as session:
        return create_job(session, spec=spec, dataset=DATASET, total_steps=40, body_sha256="b")[0].id


def is_in(database: Database, job_id: str, state: State) -> bool:
    with database.reading() as session:
        job = session.get(Job, job_id)
        return job is not None and job.state == state


@pytest.mark.usefixtures("short_leases", "long_leases")
def test_another_process_takes_over_when_the_leader_stops(
    database: Database, settings: Settings, cluster: FakeCluster
) -> None:
    with candidate(database, settings, cluster) as first:
        wait_until(lambda: leads(first), "the first process leads")
        with candidate(database, settings, cluster) as second:
            job_id = add_job(database)
            first.wake()
            wait_until(lambda: cluster.attempts, "an attempt is started")
            wait_until(lambda: state_of(database).renewals >= 2, "renewals")
            assert not leads(second)
            first.stop()
            assert not leads(first)
            wait_until(lambda: leads(second), "the second process leads")
            cluster.attempts[0].report(STARTED, SUCCEEDED)
            wait_until(lambda: is_in(database, job_id, State.SUCCEEDED), "the second process follows the attempt")
    assert len(cluster.attempts) == 1
    resources = cluster.attempts[0].assignment.spec["resources"]
    assert cluster.attempts[0].calls == [ResourcesSpec.model_validate(resources)], "the second process sends them again"
    assert state_of(database) == LeaseState(None, 2, state_of(database).renewals)


@pytest.mark.usefixtures("short_leases")
def test_another_process_takes_over_when_the_leader_is_killed(
    database: Database, settings: Settings, cluster: FakeCluster, other: Process
) -> None:
    job_id = add_job(database)
    wait_until(lambda: other.output, "the other process starts an attempt")
    with candidate(database, settings, cluster) as leadership:
        other.send(signal.SIGKILL)
        wait_until(lambda: leads(leadership), "this process leads")
        # The fake cluster ended with the other process, so its attempt is lost.
        wait_until(lambda: cluster.attempts, "the next attempt is started")
        assert cluster.attempts[0].assignment.attempt == 2
        assert ("end", "supervisor 0") in cluster.pool, "the lost supervisor is ended, so that it cannot start later"
        cluster.attempts[0].report(STARTED, SUCCEEDED)
        wait_until(lambda: is_in(database, job_id, State.SUCCEEDED), "the job has ended")


@pytest.mark.usefixtures("short_leases")
def test_a_former_leader_starts_and_writes_nothing(
    database: Database, settings: Settings, cluster: FakeCluster, other: Process
) -> None:
    with candidate(database, settings, cluster) as leadership:
        other.send(signal.SIGSTOP)
        wait_until(lambda: leads(leadership), "this process leads")
        job_id = add_job(database)
        wait_until(lambda: cluster.attempts, "an attempt is started")
        token = state_of(database).token
        other.send(signal.SIGCONT)
        # The stopped process no longer leads, but is ready to take over.
        seen = state_of(database).renewals
        wait_until(lambda: state_of(database).renewals > seen + 3, "renewals")
        assert state_of(database).token == token
        cluster.attempts[0].report(STARTED, SUCCEEDED)
        wait_until(lambda: is_in(database, job_id, State.SUCCEEDED), "the job has ended")
        assert other.output == []
        assert [attempt.assignment.attempt for attempt in cluster.attempts] == [1]
    wait_until(lambda: state_of(database).token > token, "the stopped process leads again")


@pytest.mark.usefixtures("short_leases")
def test_a_leader_whose_lease_expired_leads_again_in_a_new_term(database: Database, other: Process) -> None:
    """No other process took over. The leader stopped its scheduler when the lease expired and starts a new one."""
    token = state_of(database).token
    other.send(signal.SIGSTOP)
    seen = state_of(database)
    deadline = time.monotonic() + lease.LEASE + 0.5
    wait_until(lambda: time.monotonic() > deadline, "the lease has expired")
    assert state_of(database) == seen
    other.send(signal.SIGCONT)
    wait_until(lambda: state_of(database).token == token + 1, "its next term has begun")
    add_job(database)
    wait_until(lambda: other.output, "an attempt is started")


@pytest.mark.usefixtures("short_leases")
def test_a_process_leads_again_after_database_errors(
    database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = []

    def fail(session: object, token: int) -> bool:
        failures.append(token)
        if token == 1:
            raise ConnectionError("the database is unavailable")
        return renew(session, token)  # type: ignore[arg-type]

    renew = lease.renew
    with candidate(database, settings, cluster) as leadership:
        wait_until(lambda: leads(leadership), "the process leads")
        monkeypatch.setattr(lease, "renew", fail)
        wait_until(lambda: state_of(database).token == 2, "the next term has begun after the first has expired")
        wait_until(lambda: state_of(database).token >= 2 and state_of(database).renewals > 1, "renewals")
        assert failures.count(1) >= 2
        assert leads(leadership)


@pytest.mark.usefixtures("long_leases")
def test_a_single_process_does_not_wait_for_a_lease(
    database: Database, settings: Settings, cluster: FakeCluster
) -> None:
    with database.writing() as session:
        lease.take_over(session, read_lease(session), "a process that was killed")
    with candidate(database, settings, cluster, alone=True) as leadership:
        wait_until(lambda: leads(leadership), "the process leads")


def test_a_process_that_does_not_lead_says_whether_another_does(
    database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership_module, "LOOK", 0.01)
    waiting = Leadership(database, settings, cluster)
    assert waiting.scheduler.status() == (True, "no process leads now; this one tries to")
    with candidate(database, settings, cluster) as first:
        wait_until(lambda: leads(first), "the first one leads")
        with candidate(database, settings, cluster) as second:
            wait_until(lambda: "another process leads" in second.scheduler.status().detail, "the second one sees it")
            assert second.scheduler.status() == second.exporter.status() == (True, "stands by: another process leads")


def test_no_leader_for_longer_than_the_lease_is_not_ready(
    database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership_module, "LEASE", 0.1)
    monkeypatch.setattr(leadership_module, "LOOK", 0.01)
    monkeypatch.setattr(Leadership, "_take", lambda *_: None)  # as while the database is locked
    with candidate(database, settings, cluster) as leadership:
        wait_until(lambda: not leadership.scheduler.status().ready, "the process is not ready")
        assert leadership.scheduler.status().detail == "no process has led for 0 s; this one tries to"


@pytest.mark.usefixtures("short_leases")
def test_the_lease_is_renewed_while_all_other_connections_are_in_use(
    database: Database, settings: Settings, cluster: FakeCluster
) -> None:
    """As by followers that wait for the locks of one large transaction."""
    with candidate(database, settings, cluster) as leadership, ExitStack() as stack:
        wait_until(lambda: leads(leadership), "the process leads")
        pool = database.engine.pool
        assert isinstance(pool, QueuePool)
        for _ in range(pool.size() + pool._max_overflow):
            stack.enter_context(database.engine.connect())
        with closing(database.beside()) as beside:
            seen = state_of(beside)
            wait_until(lambda: state_of(beside).renewals > seen.renewals + 2, "renewals")
            assert state_of(beside).token == seen.token


@pytest.mark.usefixtures("short_leases")
def test_a_restart_of_the_cluster_goes_on_when_the_lease_is_lost(
    database: Database, settings: Settings, cluster: FakeCluster
) -> None:
    """The next term finds the restarted cluster, and does not restart it again."""
    begun, go_on = threading.Event(), threading.Event()
    restart = cluster.restart

    def slow() -> bool:
        begun.set()
        assert go_on.wait(30)
        return restart()

    cluster.restart = slow  # type: ignore[method-assign]
    cluster.dead = True
    with candidate(database, settings, cluster) as leadership:
        assert begun.wait(20)
        token = state_of(database).token
        with database.writing() as session:
            lease.take_over(session, read_lease(session), "another process")
        wait_until(lambda: not leads(leadership), "the process steps down")
        assert cluster.restarts == 0
        job_id = add_job(database)
        with database.writing() as session:
            lease.release(session, token + 1)
        go_on.set()
        wait_until(lambda: leads(leadership), "the process leads again")
        wait_until(lambda: cluster.attempts, "an attempt is started")
        cluster.attempts[0].report(STARTED, SUCCEEDED)
        wait_until(lambda: is_in(database, job_id, State.SUCCEEDED), "the job has ended")
    assert cluster.restarts == 1
