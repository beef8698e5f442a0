"""The lease and the check of its token: only the process that holds the lease can write."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import select, update

from service.jobs.recording import end_attempt, record_events
from service.jobs.repository import (
    create_job,
    finish_attempt,
    move,
    note_waiting,
    record_event,
    record_progress,
    record_restart,
    record_result,
    start_attempt,
)  # fmt: skip
from service.jobs.series.points import Point
from service.jobs.states import State
from service.settings import Settings
from service.store.lease import FencedDatabase, LeaseLostError, Term, check_token, read_lease, renew, take_over
from service.store.models import Base, Job, Sweep, now
from service.tracking import MlflowExporter
from service.tracking.exporter import exports
from tests.service.fixtures.leases import take
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job, wait_until
from workers.record.events import Checkpointed, Ended, Event, Noted, Progress, Restarted, Series, Started, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from service.store import Database


def dump(database: Database) -> dict[str, list[Any]]:
    """Every row of every table."""
    with database.reading() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: sorted(session.execute(select(table)).all(), key=repr) for table in tables}


@pytest.fixture
def term(database: Database) -> Term:
    return take(database)


@pytest.fixture
def fenced(database: Database, term: Term) -> FencedDatabase:
    return FencedDatabase(database, term)


SWEEP = {"base": {}, "over": None, "seeds": [], "parallel": None}
DATASET = {"digest": "0", "rows": 300, "features": 8, "classes": ["0", "1"]}


@pytest.fixture
def running(database: Database) -> str:
    """A job whose first attempt runs."""
    job_id = queued(database)
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
    return job_id


def queued(database: Database) -> str:
    with database.writing() as session:
        return create_job(session, spec=hinge_job(), dataset=DATASET, total_steps=9, body_sha256="b")[0].id


POINT = Point("train/loss", 3, 0.5, 1)
SERIES = {"train/loss": Series(np.array([3]), np.array([0.5]), np.array([1]))}
EVENTS: dict[str, Event] = {
    "started": Started(step=0, workers=2, fingerprint={}, changed={}),
    "progress": Progress(epoch=1, step=3, series=SERIES),
    "checkpointed": Checkpointed(3, "ab" * 32),
    "restarted": Restarted("worker_lost", "it was killed"),
    "waiting": Waiting("waiting_for_resources: needs 2 CPUs"),
    "noted": Noted("room", {"workers": 2}),
    "succeeded": Ended("succeeded", "completed"),
    "paused": Ended("paused", "paused_by_user"),
    "failed": Ended("failed", "storage_error"),
    "lost": Ended("lost", "worker_lost"),
    "interrupted": Ended("interrupted", "service_restarted"),
}

# Writes of the leader that concern an attempt.
ATTEMPT_WRITES: dict[str, Callable[[Session, str, int], Any]] = {
    **{
        name: lambda session, job, attempt, event=event: record_events(session, job, attempt, [(1, event)])
        for name, event in EVENTS.items()
    },
    "end_attempt": lambda session, job, attempt: end_attempt(session, job, attempt, EVENTS["lost"]),
    "finish_attempt": lambda session, job, attempt: finish_attempt(session, job, attempt, outcome="lost"),
    "record_points": lambda session, job, attempt: record_points(session, job, attempt, [POINT]),
    "record_progress": lambda session, job, attempt: record_progress(session, job, attempt, epoch=1, step=3),
    "record_result": lambda session, job, attempt: record_result(session, job, attempt, params_sha256="ab"),
    "record_event": lambda session, job, attempt: record_event(session, job, attempt, "room"),
    "record_restart": lambda session, job, attempt: record_restart(session, job, attempt, reason="r", message="m"),
    "move": lambda session, job, attempt: move(
        session, job, from_=State.RUNNING, to=State.SUCCEEDED, attempt=attempt
    ),
}  # fmt: skip

# Other writes of the leader.
LEADER_WRITES: dict[str, Callable[[Session, str, int], Any]] = {
    "start_attempt": lambda session, job, _attempt: start_attempt(session, job, "another"),
    "move to starting": lambda session, job, _attempt: move(session, job, from_=State.QUEUED, to=State.STARTING),
    "note_waiting": lambda session, job, _attempt: note_waiting(session, job, "waiting_for_cpus"),
}


@pytest.mark.parametrize("write", ATTEMPT_WRITES | LEADER_WRITES)
def test_a_stale_token_writes_nothing(database: Database, fenced: FencedDatabase, running: str, write: str) -> None:
    job_id = queued(database) if write in LEADER_WRITES else running
    successor = FencedDatabase(database, take(database, "another process"))
    before = dump(database)
    with pytest.raises(LeaseLostError), fenced.writing() as session:
        (ATTEMPT_WRITES | LEADER_WRITES)[write](session, job_id, 1)
    assert dump(database) == before
    with successor.writing() as session:
        (ATTEMPT_WRITES | LEADER_WRITES)[write](session, job_id, 1)
    assert dump(database) != before, "the write has an effect with a valid token"


@pytest.mark.parametrize("write", ATTEMPT_WRITES)
def test_a_stale_attempt_writes_nothing(database: Database, fenced: FencedDatabase, running: str, write: str) -> None:
    with database.writing() as session:
        end_attempt(session, running, 1, EVENTS["lost"])
        start_attempt(session, running, "another supervisor")
        move(session, running, from_=State.QUEUED, to=State.STARTING)
        move(session, running, from_=State.STARTING, to=State.RUNNING)
    before = dump(database)
    with fenced.writing() as session:
        ATTEMPT_WRITES[write](session, running, 1)
    assert dump(database) == before


class AcceptingApi:
    """MLflow's API that accepts every call."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*_arguments: Any) -> Any:
            self.calls.append(name)
            if name == "find_run":
                return None
            return RUN if name in {"create_run", "get_run"} else "1"

        return call


class RUN:
    run_id = experiment_id = "1"
    active, artifact_uri = True, "mlflow-artifacts:/1"


def forget_run_of_job(session: Session) -> None:
    session.execute(Base.metadata.tables["mlflow_runs"].delete())


def forget_run_of_sweep(session: Session) -> None:
    session.execute(update(Sweep).values(mlflow_run_id=None, mlflow_experiment_id=None))


@pytest.mark.parametrize(("part", "forget"), [("job", forget_run_of_job), ("sweep", forget_run_of_sweep)])
def test_the_exporter_with_a_stale_token_writes_nothing_after_any_call(
    database: Database, running: str, tmp_path: Path, part: str, forget: Callable[[Session], None]
) -> None:
    with database.writing() as session:
        record_points(session, running, 1, [POINT])
        end_attempt(session, running, 1, EVENTS["succeeded"])
        if part == "sweep":
            session.add(Sweep(id="s", name="n", experiment="e", spec=SWEEP, body_sha256="b", created_at=now()))
            session.execute(update(Job).values(sweep_id="s", mlflow_finished=True))
    settings = Settings(data_dir=tmp_path, mlflow_url="http://mlflow.example")
    calls: list[str] = []
    taken_at = 0
    while True:
        # Each iteration loses the lease in the next call to MLflow.
        term = take(database)
        fenced = FencedDatabase(database, term)
        exporter = MlflowExporter(fenced, settings)

        class LeaseLosingApi(AcceptingApi):
            def __getattr__(self, name: str) -> Callable[..., Any]:
                if len(self.calls) == taken_at:  # noqa: B023
                    take(database, "another process")
                    states.append(dump(database))  # noqa: B023
                return super().__getattr__(name)

        states: list[Any] = []
        exporter._exports = parts = exports(fenced, settings, LeaseLosingApi(calls))  # type: ignore[arg-type]
        parts.mending.due = False
        calls.clear()
        with suppress(LeaseLostError):
            exporter.step()
        if not states:
            break  # the export was complete before that call
        assert dump(database) == states[0], f"lost in {calls[taken_at]}"
        taken_at += 1
        with database.writing() as session:
            forget(session)
    assert len(calls) == taken_at >= 7
    with database.reading() as session:
        assert session.get_one(Job, running).mlflow_finished
        assert session.get_one(Job, running).mlflow_run is not None or part == "sweep"
        assert all(sweep.mlflow_finished for sweep in session.scalars(select(Sweep)))


def test_one_of_many_candidates_takes_the_lease(database: Database) -> None:
    """All candidates read the same lease. One of them takes it, which increments the token."""
    seed = 4
    order = random.Random(seed)
    for turn in range(5):
        with database.reading() as session:
            seen = read_lease(session)
        barrier, tokens = threading.Barrier(6), []

        def campaign(name: str) -> None:
            barrier.wait()  # noqa: B023
            with database.writing() as session:
                tokens.append(take_over(session, seen, name))  # noqa: B023

        names = [f"process {number}" for number in range(6)]
        order.shuffle(names)
        threads = [threading.Thread(target=campaign, args=[name]) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(token or 0 for token in tokens) == [0] * 5 + [turn + 1]


def test_a_lease_that_was_renewed_is_not_taken(database: Database, term: Term) -> None:
    with database.reading() as session:
        seen = read_lease(session)
    term.renew()
    with database.writing() as session:
        assert take_over(session, seen, "another") is None
    term.check()


def test_a_takeover_waits_for_open_transactions(database: Database, fenced: FencedDatabase, running: str) -> None:
    taken = threading.Event()

    def succeed() -> None:
        take(database, "another process")
        taken.set()

    successor = threading.Thread(target=succeed)
    with fenced.writing() as session:
        successor.start()
        if database.engine.dialect.name == "postgresql":
            wait_until(lambda: waiting_locks(database), "the takeover waits for a lock")
        record_result(session, running, 1, params_sha256="in time")
        assert not taken.is_set()
    successor.join()
    with database.reading() as session:
        assert session.get_one(Job, running).params_sha256 == "in time"


def waiting_locks(database: Database) -> int:
    with database.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())


def test_renewals_and_writes_do_not_wait_for_each_other(database: Database, fenced: FencedDatabase, term: Term) -> None:
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with fenced.writing() as session:
        check_token(session, term.token)
        with fenced.writing() as other:
            check_token(other, term.token)
            term.renew()


def test_a_holder_whose_lease_expired_stops(database: Database) -> None:
    """Its term ends for good, even if no other process has taken over and a renewal would succeed."""
    with database.writing() as session:
        token = take_over(session, read_lease(session), "a process")
    assert token is not None
    term = Term(database, token, begun=time.monotonic() - 60)
    fenced = FencedDatabase(database, term)
    for transaction in (fenced.reading, fenced.writing):
        with pytest.raises(LeaseLostError), transaction():
            pytest.fail("the transaction started")
    with database.writing() as session:
        assert renew(session, token)
    with pytest.raises(LeaseLostError):
        term.renew()
    assert term.over.is_set()


def test_ending_a_term_frees_only_the_own_lease(database: Database, term: Term) -> None:
    term.end()
    with database.reading() as session:
        assert read_lease(session).holder is None
    with pytest.raises(LeaseLostError):
        term.check()
    second = take(database, "second")
    third = take(database, "third")
    second.end()
    with database.reading() as session:
        assert read_lease(session).holder == "third"
    third.check()
