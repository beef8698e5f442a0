from __future__ import annotations

import math
import random
import threading
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from service.jobs.repository import (
    create_job,
    finish_attempt,
    jobs_in,
    move,
    note_waiting,
    record_event,
    record_kept,
    record_progress,
    record_restart,
    record_result,
    start_attempt,
)
from service.jobs.series.points import Point, Series, read_series
from service.jobs.states import MOVES, TERMINAL, State
from service.store.models import Event, Job
from service.store.rows import IdempotencyMismatchError
from service.store.types import Float64
from tests.service.fixtures.points import record_points
from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.store import Database


def add_job(session: Session, **changes: Any) -> Job:
    arguments: dict[str, Any] = {
        "spec": {"name": "a job", "experiment": "default", "resources": ResourcesSpec().model_dump()},
        "dataset": {"digest": "00"},
        "total_steps": 100,
        "body_sha256": "body",
    }
    return create_job(session, **(arguments | changes))[0]


def events(session: Session, job_id: str, kind: str) -> list[Event]:
    return list(session.scalars(select(Event).where(Event.job_id == job_id, Event.kind == kind).order_by(Event.id)))


def add_job_in(session: Session, state: State) -> str:
    """A job in a state, without the moves that lead to it."""
    job = add_job(session)
    job.state = state
    session.flush()
    return job.id


@pytest.fixture
def running(database: Database) -> tuple[str, int]:
    """A running job and its attempt."""
    with database.writing() as session:
        job_id = add_job(session).id
        attempt = start_attempt(session, job_id, "supervisor")
        assert move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        assert move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
    return job_id, attempt


@pytest.mark.parametrize(
    ("origin", "target"), [(origin, target) for origin in State for target in State if target in MOVES[origin]]
)
def test_an_allowed_move_is_made(database: Database, origin: State, target: State) -> None:
    with database.writing() as session:
        job_id = add_job_in(session, origin)
        before = len(events(session, job_id, "state"))
        assert move(session, job_id, from_=origin, to=target, reason="because")
        job = session.get(Job, job_id, populate_existing=True)
        assert job is not None
        assert (job.state, job.reason) == (target, "because")
        assert (job.finished_at is not None) == (target in TERMINAL)
        event = events(session, job_id, "state")[before]
        assert (event.from_state, event.to_state, event.reason) == (origin, target, "because")


@pytest.mark.parametrize(
    ("origin", "target"), [(origin, target) for origin in State for target in State if target not in MOVES[origin]]
)
def test_other_moves_raise_an_error(origin: State, target: State) -> None:
    with Session() as no_database, pytest.raises(ValueError, match=f"cannot move from {origin} to {target}"):
        move(no_database, "job_1", from_=origin, to=target)


def test_every_job_can_end_and_an_ended_one_has_no_moves() -> None:
    reachable = {state: set(MOVES[state]) for state in State}
    for _ in State:
        for state in State:
            reachable[state] |= {further for target in reachable[state] for further in MOVES[target]}
    for state in State:
        if state.terminal:
            assert not MOVES[state]
        else:
            assert reachable[state] >= TERMINAL, state
    assert {State.SUCCEEDED, State.FAILED, State.CANCELLED} == TERMINAL
    # A job can go through these states, and cannot succeed without running.
    walk = [State.QUEUED, State.STARTING, State.RUNNING, State.SUCCEEDED]
    assert all(target in MOVES[origin] for origin, target in pairwise(walk))
    assert State.SUCCEEDED not in MOVES[State.QUEUED] | MOVES[State.STARTING] | MOVES[State.PAUSED]


def test_a_move_from_another_state_changes_nothing(database: Database) -> None:
    with database.writing() as session:
        job_id = add_job_in(session, State.RUNNING)
        assert not move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        assert jobs_in(session, [State.RUNNING])[0].id == job_id
        assert len(events(session, job_id, "state")) == 1


STALE_WRITES: dict[str, Callable[[Session, str, int], bool]] = {
    "move": lambda session, job, attempt: move(
        session, job, from_=State.RUNNING, to=State.FAILED, reason="lost", attempt=attempt
    ),
    "record_points": lambda session, job, attempt: record_points(
        session, job, attempt, [Point("train/loss", 9, 1.0, 0)]
    ),
    "record_progress": lambda session, job, attempt: record_progress(session, job, attempt, epoch=9, step=9),
    "record_result": lambda session, job, attempt: record_result(session, job, attempt, params_sha256="stale"),
    "record_kept": lambda session, job, attempt: record_kept(session, job, attempt, {"step": 9}, {}),
    "record_event": lambda session, job, attempt: record_event(session, job, attempt, "noted"),
    "record_restart": lambda session, job, attempt: record_restart(
        session, job, attempt, reason="worker_lost", message="it was killed"
    ),
    "finish_attempt": lambda session, job, attempt: finish_attempt(session, job, attempt, outcome="failed"),
}


def snapshot(session: Session, job_id: str) -> Any:
    job = session.get(Job, job_id, populate_existing=True)
    assert job is not None
    session.refresh(job, ["attempts"])
    columns = {column.name: getattr(job, column.name) for column in Job.__table__.columns}
    attempts = [(attempt.number, attempt.outcome, attempt.finished_at) for attempt in job.attempts]
    return columns, attempts, read_series(session, job_id), len(list(session.scalars(select(Event.id))))


@pytest.mark.parametrize("write", STALE_WRITES)
def test_a_stale_attempt_changes_nothing(database: Database, running: tuple[str, int], write: str) -> None:
    job_id, stale = running
    with database.writing() as session:
        assert start_attempt(session, job_id, "supervisor") == stale + 1
        before = snapshot(session, job_id)
        assert STALE_WRITES[write](session, job_id, stale) is False
        assert snapshot(session, job_id) == before
        assert STALE_WRITES[write](session, job_id, stale + 1) is True
        assert snapshot(session, job_id) != before


PATHS_WITHOUT_ATTEMPT = [
    (State.SUCCEEDED,),
    (State.QUEUED,),
    (State.PAUSING, State.PAUSED),
    (State.PAUSING, State.PAUSED, State.QUEUED),
]


@pytest.mark.parametrize(
    "write", ["record_points", "record_progress", "record_result", "record_event", "record_restart"]
)
@pytest.mark.parametrize("path", PATHS_WITHOUT_ATTEMPT)
def test_an_attempt_of_a_job_that_is_not_live_changes_nothing(
    database: Database, running: tuple[str, int], write: str, path: tuple[State, ...]
) -> None:
    job_id, attempt = running
    with database.writing() as session:
        for origin, target in pairwise((State.RUNNING, *path)):
            assert move(session, job_id, from_=origin, to=target)
        before = snapshot(session, job_id)
        assert STALE_WRITES[write](session, job_id, attempt) is False
        assert snapshot(session, job_id) == before


def test_an_attempt_ends_once(database: Database, running: tuple[str, int]) -> None:
    job_id, attempt = running
    with database.writing() as session:
        assert finish_attempt(session, job_id, attempt, outcome="failed", reason="worker_died")
        assert not finish_attempt(session, job_id, attempt, outcome="succeeded")
        ended = events(session, job_id, "attempt_finished")
        assert [(event.attempt, event.reason, event.data) for event in ended] == [
            (attempt, "worker_died", {"outcome": "failed"})
        ]


def test_only_a_queued_job_has_a_waiting_reason(database: Database) -> None:
    with database.writing() as session:
        job = add_job(session)
        assert note_waiting(session, job.id, "waiting_for_cpus")
        session.refresh(job)
        assert job.reason == "waiting_for_cpus"
        assert move(session, job.id, from_=State.QUEUED, to=State.STARTING)
        assert not note_waiting(session, job.id, "waiting_for_cpus")
        session.refresh(job)
        assert job.reason is None


def test_progress_never_decreases(database: Database, running: tuple[str, int]) -> None:
    job_id, attempt = running
    with database.writing() as session:
        for epoch, step in ((1, 10), (2, 20), (1, 12), (2, 20), (3, 20)):
            record_progress(session, job_id, attempt, epoch=epoch, step=step)
        job = session.get(Job, job_id, populate_existing=True)
        assert job is not None
        assert (job.epoch, job.step) == (3, 20)


def test_points_are_recorded_once_and_different_values_reported(database: Database, running: tuple[str, int]) -> None:
    job_id, attempt = running
    nan, infinity = float("nan"), float("inf")
    first = [
        Point("train/loss", 1, 0.5, 10),
        Point("train/loss", 2, nan, 20),
        Point("grad/norm", 1, infinity, 10),
        Point("grad/norm", 2, -0.0, 10),
        Point("time/step_ms", 1, 3.0, 10),
    ]
    with database.writing() as session:
        assert record_points(session, job_id, attempt, first)
    with database.writing() as session:
        again = [point._replace(time_ms=99) for point in first]
        assert record_points(session, job_id, attempt, [*again, Point("time/step_ms", 1, 4.0, 11)])
        assert not events(session, job_id, "determinism_violation")
        last_bit = math.nextafter(0.5, 1)
        differing = [
            Point("train/loss", 3, 0.25, 30),
            Point("train/loss", 1, last_bit, 10),
            Point("train/loss", 2, 1.0, 20),
        ]
        assert record_points(session, job_id, attempt, differing)
        (event,) = events(session, job_id, "determinism_violation")
        assert event.data == {
            "name": "train/loss", "step": 1, "recorded": "0.5", "recomputed": repr(last_bit), "differing_points": 2,
        }  # fmt: skip
        assert event.attempt == attempt
        series = read_series(session, job_id)
        assert repr(series["train/loss"]) == repr(Series([1, 2, 3], [0.5, nan, 0.25]))
        assert series["grad/norm"] == Series([1, 2], [infinity, 0.0])
        assert series["time/step_ms"].values == [3.0]
        job = session.get(Job, job_id, populate_existing=True)
        assert job is not None
        assert job.latest_metrics == {
            "train/loss": [3, 0.25], "grad/norm": [2, 0.0], "time/step_ms": [1, 3.0],
        }  # fmt: skip


def test_the_latest_value_is_that_of_the_last_step(database: Database, running: tuple[str, int]) -> None:
    job_id, attempt = running
    with database.writing() as session:
        record_points(session, job_id, attempt, [Point("val/loss", 7, 0.7, 1), Point("val/loss", 5, 0.5, 1)])
        record_points(session, job_id, attempt, [Point("val/loss", 6, 0.6, 1)])
        job = session.get(Job, job_id, populate_existing=True)
        assert job is not None
        assert job.latest_metrics == {"val/loss": [7, 0.7]}


def test_a_duplicate_point_in_one_call(database: Database, running: tuple[str, int]) -> None:
    job_id, attempt = running
    point = Point("train/loss", 1, 0.5, 10)
    with database.writing() as session:
        assert record_points(session, job_id, attempt, [point, point, point._replace(value=0.75)])
        assert read_series(session, job_id) == {"train/loss": Series([1], [0.5])}
        assert len(events(session, job_id, "determinism_violation")) == 1
        assert record_points(session, job_id, attempt, [])


@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_a_value_is_read_as_it_was_written(value: float) -> None:
    column = Float64()
    dialect: Any = None
    read = column.process_result_value(column.process_bind_param(value, dialect), dialect)
    assert read == value or (math.isnan(read) and math.isnan(value))


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements sent to the database. A statement with many rows is counted once."""
    found: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        found.append(statement)

    event.listen(database.engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", record)


def test_five_thousand_points_in_one_call(database: Database, running: tuple[str, int]) -> None:
    job_id, attempt = running
    seed = 20240607
    values = random.Random(seed)
    points = [Point(f"series/{step % 10}", step // 10, values.random(), step) for step in range(5000)]
    overlapping = [*points[2500:], *(point._replace(step=point.step + 500) for point in points[:2500])]
    counted: list[list[str]] = []
    for batch in (points[:1], points, overlapping):
        with database.writing() as session, statements(database) as found:
            assert record_points(session, job_id, attempt, batch)
        counted.append(found)
    with database.reading() as session:
        series = read_series(session, job_id)
        assert not events(session, job_id, "determinism_violation")
    assert sum(len(steps) for steps, _ in series.values()) == 7500
    for point in points:
        assert series[point.name].values[point.step] == point.value, f"seed {seed}"
    assert [len(found) for found in counted] == [len(counted[0])] * 3, "many points need as many statements as one"


def test_concurrent_creations_with_one_key_create_one_job(database: Database) -> None:
    spec = {"name": "n", "experiment": "e", "resources": ResourcesSpec().model_dump()}
    barrier = threading.Barrier(8)
    made: list[tuple[str, bool]] = []

    def submit() -> None:
        barrier.wait()
        with database.writing() as session:
            job, created = create_job(
                session, spec=spec, dataset={}, total_steps=1, body_sha256="b", idempotency_key="key"
            )
            made.append((job.id, created))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len({job_id for job_id, _ in made}) == 1
    assert sorted(created for _, created in made) == [False] * 7 + [True]
    with database.writing() as session, pytest.raises(IdempotencyMismatchError):
        add_job(session, idempotency_key="key", body_sha256="another")


def test_concurrent_attempts_get_consecutive_numbers(database: Database) -> None:
    with database.writing() as session:
        job_id = add_job(session).id
    numbers: list[int] = []

    def start() -> None:
        for _ in range(5):
            with database.writing() as session:
                numbers.append(start_attempt(session, job_id, "supervisor"))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 21))


def test_an_exception_rolls_back(database: Database) -> None:
    made = []

    def fail() -> None:
        with database.writing() as session:
            made.append(add_job(session).id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.reading() as session:
        assert session.get(Job, made[0]) is None
