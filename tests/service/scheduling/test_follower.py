"""The follower of an attempt: events are written in bounded transactions, each once."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from service.jobs.repository import create_job, get_attempt, move, start_attempt
from service.jobs.states import State
from service.scheduling.follower import Follower
from service.store.models import Event as EventRow
from service.store.models import Job, Metric
from tests.service.fakes.cluster import FakeAttempt
from tests.service.fixtures.support import hinge_job, wait_until
from workers.record.events import Ended, Noted, Progress, Series, Started
from workers.record.pieces import MOST_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from service.store import Database
    from workers.cluster.attempt import Attempt
    from workers.record.events import Event
    from workers.training.assignment import Assignment

STEPS = 2_000
SERIES = [f"train/metric_{number}" for number in range(10)]
PER_REPORT = 50  # steps
END = Ended("succeeded", "completed")


@pytest.fixture
def job_id(database: Database) -> str:
    """A job whose first attempt starts."""
    with database.writing() as session:
        job = create_job(session, spec=hinge_job(), dataset={}, total_steps=STEPS, body_sha256="b")[0]
        start_attempt(session, job.id, "supervisor")
        move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        return job.id


def backlog() -> list[Event]:
    """The events of a job with 20,000 points."""
    events: list[Event] = [Started(step=0, workers=1, fingerprint={}, changed={})]
    for first in range(1, STEPS + 1, PER_REPORT):
        steps = np.arange(first, first + PER_REPORT)
        series = {name: Series(steps, steps / (7 + number), steps + 1000) for number, name in enumerate(SERIES)}
        events += [Progress(0, int(steps[-1]), series), Noted("room", {"step": int(steps[-1])})]
    return [*events, END]


class Counted:
    """The database, with the number of points and of events after each transaction; one can be held back."""

    def __init__(self, database: Database, hold_after: int | None = None) -> None:
        self._database, self._hold_after = database, hold_after
        self.held, self.go_on = threading.Event(), threading.Event()
        self.points: list[int] = [0]
        self.events: list[int] = [0]

    def reading(self) -> Any:
        return self._database.reading()

    @contextmanager
    def writing(self) -> Iterator[Session]:
        if len(self.points) - 1 == self._hold_after:
            self.held.set()
            assert self.go_on.wait(60)
        with self._database.writing() as session:
            yield session
            self.points.append(session.scalar(select(func.count()).select_from(Metric)) or 0)
            self.events.append(session.scalar(select(func.count()).select_from(EventRow)) or 0)


class FailsOnce(Counted):
    """Its fourth transaction fails after everything was sent."""

    failed = False

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with super().writing() as session:
            yield session
            if len(self.points) == 4 and not self.failed:
                self.failed = True
                raise OperationalError("COMMIT", None, Exception("the connection is lost"))


def follow(database: Counted, job_id: str, attempt: FakeAttempt, last_event: int = 0) -> Follower:
    return Follower(
        database, job_id, 1, cast("Attempt", attempt), last_event=last_event, on_end=lambda: None
    )  # fmt: skip


def fake_attempt() -> FakeAttempt:
    attempt = FakeAttempt(cast("Assignment", None), "supervisor")
    attempt.report(*backlog())
    return attempt


def assert_complete(database: Database, job_id: str) -> None:
    with database.reading() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.step) == (State.SUCCEEDED, STEPS)
        assert get_attempt(session, job_id, 1).last_event == len(backlog())
        assert session.scalar(select(func.count()).select_from(Metric)) == STEPS * len(SERIES)
        for number, name in enumerate(SERIES):
            query = select(Metric.step, Metric.value).where(Metric.name == name).order_by(Metric.step)
            assert session.execute(query).all() == [(step, step / (7 + number)) for step in range(1, STEPS + 1)]
        notes = select(EventRow.data).where(EventRow.kind == "room").order_by(EventRow.id)
        assert [each["step"] for each in session.scalars(notes)] == list(range(PER_REPORT, STEPS + 1, PER_REPORT))
        kinds = session.scalars(select(EventRow.kind)).all()
        assert "determinism_violation" not in kinds
        assert kinds.count("training_started") == 1


def test_a_backlog_is_written_in_bounded_transactions(database: Database, job_id: str) -> None:
    counted = Counted(database)
    follower = follow(counted, job_id, fake_attempt())
    follower.join()
    assert follower.end == END
    assert max(np.diff(counted.points)) <= MOST_POINTS
    assert max(np.diff(counted.events)) <= MOST_POINTS // 20 + 5
    assert_complete(database, job_id)


def test_a_follower_that_is_stopped_in_a_backlog_ends_after_a_piece_and_another_continues(
    database: Database, job_id: str
) -> None:
    counted, attempt = Counted(database, hold_after=4), fake_attempt()
    first = follow(counted, job_id, attempt)
    assert counted.held.wait(60)
    first.stop()
    counted.go_on.set()
    first.join()
    assert first.end is None
    assert len(counted.points) - 1 == 5, "the piece that was begun is the last one"
    assert 0 < counted.points[-1] <= 5 * MOST_POINTS
    with database.reading() as session:
        last_event = get_attempt(session, job_id, 1).last_event
        step = session.get_one(Job, job_id).step
        assert counted.points[-1] == step * len(SERIES), "the progress is that of the points"
    second = follow(Counted(database), job_id, attempt, last_event)
    second.join()
    assert second.end == END
    assert_complete(database, job_id)


def test_a_piece_that_failed_is_written_again(database: Database, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a crash in the middle: the pieces before it stay written, and nothing is written twice."""
    monkeypatch.setattr("service.scheduling.follower.RETRY_WAIT", 0.01)
    counted = FailsOnce(database)
    follower = follow(counted, job_id, fake_attempt())
    wait_until(lambda: follower.end is not None, "the end of the attempt")
    follower.join()
    assert counted.failed
    assert_complete(database, job_id)
