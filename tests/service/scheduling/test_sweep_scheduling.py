"""Scheduling of sweeps with a stopping rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.errors import ConflictError
from service.jobs.actions import apply_action, delete_job
from service.jobs.events import list_events
from service.jobs.repository import get_attempt, jobs_in, move, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import TERMINAL, Action, State
from service.scheduling.scheduler import Scheduler
from service.store.lease import LeaseLostError
from service.store.models import Job
from service.sweeps.judging import standings, stop
from service.sweeps.repository import create_sweep, state_of, states_of
from service.sweeps.stopping import Standing, SuccessiveHalving
from service.sweeps.storing import member_rows
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job, wait_until
from workers.job.spec import JobSpec
from workers.record.events import Ended, Progress, Series, Started

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings
    from service.store import Database
    from tests.service.fakes.cluster import FakeAttempt

DATASET = {"digest": "00", "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}
EPOCHS, STEPS = 5, 3
HALVING = {"type": "halving", "metric": "val/accuracy", "factor": 2, "first": 1}
MEDIAN = {"type": "median", "metric": "val/accuracy", "after_epochs": 2, "members": 1}
REACHED = Ended("paused", "reached_step")

# By member and epoch.
CURVES = [
    [0.1, 0.9, 0.9, 0.9, 0.9],
    [0.3, 0.4, 0.4, 0.4, 0.4],
    [math.nan, 0.9, 0.9, 0.9, 0.9],
    [0.2, 0.5, 0.5, 0.6, 0.7],
]


def member(steps_per_epoch: int = STEPS, **changes: Any) -> dict[str, Any]:
    spec = JobSpec.model_validate(hinge_job(**{"training.epochs": EPOCHS, **changes})).model_dump(mode="json")
    total = spec["training"]["epochs"] * steps_per_epoch
    return {"spec": spec, "dataset": DATASET, "total_steps": total, "body_sha256": "b"}


def add_sweep(database: Database, stopping: dict[str, Any], members: list[dict[str, Any]], **changes: Any) -> list[str]:
    """Create a sweep and return the ids of its jobs."""
    spec = {"name": "s", "experiment": "default", "parallel": None, "stopping": stopping, **changes}
    with database.writing() as session:
        sweep, _ = create_sweep(session, spec=spec, members=member_rows(members), body_sha256="b")
        return [job.id for job in jobs_in(session, [State.QUEUED]) if job.sweep_id == sweep.id]


def job_of(database: Database, job_id: str) -> Job:
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return job


def sweep_of(database: Database, job_id: str) -> tuple[str, dict[str, int]]:
    """The state of a job's sweep, and the number of its jobs in each state."""
    sweep_id = job_of(database, job_id).sweep_id
    assert sweep_id is not None
    with database.reading() as session:
        states = states_of(session, [sweep_id])[sweep_id]
        return state_of(states), dict(states)


def act(database: Database, job_id: str, action: Action) -> None:
    with database.writing() as session:
        apply_action(session, job_id, action)


def report_epochs(attempt: FakeAttempt, curve: list[float], first: int, last: int) -> None:
    attempt.report(Started(step=(first - 1) * STEPS, workers=2, fingerprint={}, changed={}))
    for epoch in range(first, last + 1):
        series = Series(np.array([epoch * STEPS]), np.array([curve[epoch - 1]]), np.array([1000]))
        attempt.report(Progress(epoch=epoch, step=epoch * STEPS, series={"val/accuracy": series}))


def train(attempt: FakeAttempt, curve: list[float]) -> None:
    """Report what workers do: train from the last reported step to `until_step` or to the end."""
    begun, until = attempt.assignment.reported_step // STEPS, attempt.assignment.until_step
    report_epochs(attempt, curve, begun + 1, EPOCHS if until is None else until // STEPS)
    attempt.report(Ended("succeeded", "completed") if until is None else REACHED)


def train_all(
    database: Database, cluster: FakeCluster, ids: list[str], meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Train every attempt that is started until all jobs have ended."""
    trained = 0

    def all_ended() -> bool:
        nonlocal trained
        meanwhile()
        for attempt in cluster.attempts[trained:]:
            train(attempt, CURVES[ids.index(attempt.assignment.job)])
            trained += 1
        return all(job_of(database, job_id).state in TERMINAL for job_id in ids)

    wait_until(all_ended, "all jobs have ended")


def assert_halved(database: Database, cluster: FakeCluster, ids: list[str]) -> None:
    jobs = [job_of(database, job_id) for job_id in ids]
    assert [(job.state, job.reason, job.epoch) for job in jobs] == [
        ("cancelled", "stopped_by_sweep: val/accuracy 0.1 at epoch 1 is not among the best 2 of 4", 1),
        ("cancelled", "stopped_by_sweep: val/accuracy 0.4 at epoch 2 is not among the best 1 of 2", 2),
        ("cancelled", "stopped_by_sweep: val/accuracy not a finite number at epoch 1 is not among the best 2 of 4", 1),
        ("succeeded", "completed", 5),
    ]
    assert [job.attempt for job in jobs] == [1, 2, 1, 4]
    assert [job.restarts for job in jobs] == [0] * 4
    until = [attempt.assignment.until_step for attempt in cluster.attempts]
    assert until == [rung and rung * STEPS for rung in (1, 1, 1, 1, 2, 2, 4, None)]
    assert sweep_of(database, ids[0]) == ("succeeded", {"stopped": 3, "succeeded": 1})


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize("parallel", [None, 1])
def test_successive_halving(database: Database, cluster: FakeCluster, parallel: int | None) -> None:
    ids = add_sweep(database, HALVING, [member()] * 4, parallel=parallel)
    train_all(database, cluster, ids)
    assert_halved(database, cluster, ids)


@pytest.mark.parametrize("cut", range(3))
def test_a_new_scheduler_after_a_lost_lease_gives_the_same_result(
    database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """The scheduler loses its lease before move `cut`, and a new scheduler continues."""
    moves = 0

    def stop_or_lose_lease(*arguments: Any) -> bool:
        nonlocal moves
        moves += 1
        if moves == cut + 1:
            raise LeaseLostError
        return stop(*arguments)

    monkeypatch.setattr("service.scheduling.scheduler.stop", stop_or_lose_lease)
    ids = add_sweep(database, HALVING, [member()] * 4)
    schedulers = [Scheduler(database, settings, cluster)]
    schedulers[0].start()

    def replace_scheduler() -> None:
        if moves == cut + 1 and len(schedulers) == 1:
            wait_until(lambda: not schedulers[0].status().ready, "the first scheduler has ended")
            schedulers[0].stop()
            schedulers.append(Scheduler(database, settings, cluster))
            schedulers[1].start()

    try:
        train_all(database, cluster, ids, replace_scheduler)
    finally:
        for scheduler in schedulers:
            scheduler.stop()
    assert len(schedulers) == 2
    assert_halved(database, cluster, ids)


@pytest.mark.usefixtures("scheduler")
def test_pausing_and_cancelling_members_at_a_rung(database: Database, cluster: FakeCluster) -> None:
    cluster.resources["CPU"] = 8
    ids = add_sweep(database, HALVING, [member()] * 4)
    wait_until(lambda: len(cluster.attempts) == 4, "all members have started")
    best, good, bad, last = cluster.attempts
    for attempt, value in ((best, 0.9), (good, 0.8), (bad, 0.1)):
        report_epochs(attempt, [value], 1, 1)
        attempt.report(REACHED)
    reason = "waiting_for_sweep: other members have not reached the end of epoch 1"
    for job_id in ids[:3]:
        wait_until(lambda: job_of(database, job_id).reason == reason, "the reason is recorded")  # noqa: B023
        assert job_of(database, job_id).state == State.QUEUED
    with database.writing() as session, pytest.raises(ConflictError, match="queued"):
        delete_job(session, ids[0])

    act(database, ids[1], Action.PAUSE)
    act(database, ids[2], Action.PAUSE)
    last.report(Started(step=0, workers=2, fingerprint={}, changed={}), Ended("failed", "non_finite_loss"))
    # Two of the three members that reached the rung continue. One of them and the third one are paused.
    wait_until(lambda: len(cluster.attempts) == 5, "the best member continues")
    assert (cluster.attempts[4].assignment.job, cluster.attempts[4].assignment.until_step) == (ids[0], 2 * STEPS)
    assert [job_of(database, job_id).state for job_id in ids[1:]] == ["paused", "paused", "failed"]
    with database.writing() as session, pytest.raises(ConflictError, match="compares other jobs with"):
        delete_job(session, ids[3])

    act(database, ids[2], Action.RESUME)
    wait_until(lambda: job_of(database, ids[2]).state == State.CANCELLED, "the member is stopped")
    assert job_of(database, ids[2]).reason == (
        "stopped_by_sweep: val/accuracy 0.1 at epoch 1 is not among the best 2 of 3"
    )
    act(database, ids[1], Action.RESUME)
    wait_until(lambda: len(cluster.attempts) == 6, "the member continues")
    for job_id in ids[:2]:
        act(database, job_id, Action.CANCEL)
    for attempt in cluster.attempts[4:]:
        attempt.report(Ended("cancelled", "cancelled_by_user"))
    wait_until(
        lambda: sweep_of(database, ids[0]) == ("failed", {"cancelled": 2, "failed": 1, "stopped": 1}),
        "all jobs have ended",
    )
    with database.writing() as session:
        delete_job(session, ids[3])


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize("too_late", [False, True])
def test_the_median_rule_stops_a_running_member(database: Database, cluster: FakeCluster, too_late: bool) -> None:
    good, bad = add_sweep(database, MEDIAN, [member()] * 2)
    wait_until(lambda: len(cluster.attempts) == 2, "both members have started")
    first, second = cluster.attempts
    assert (first.assignment.until_step, second.assignment.until_step) == (None, None)
    report_epochs(second, [0.25, 0.25], 1, 2)
    report_epochs(first, [0.5, 0.5], 1, 2)
    wait_until(lambda: "cancel" in second.calls, "the attempt is cancelled")
    second.report(Ended("succeeded", "completed") if too_late else Ended("cancelled", "cancelled_by_user"))
    first.report(Ended("succeeded", "completed"))
    wait_until(lambda: {job_of(database, each).state for each in (good, bad)} <= TERMINAL, "all jobs have ended")
    assert "cancel" not in first.calls
    if too_late:
        assert sweep_of(database, bad) == ("succeeded", {"succeeded": 2})
        return
    reason = (
        "stopped_by_sweep: val/accuracy was at best 0.25 up to epoch 2, worse than 0.5, the median of the averages of "
        "1 other members"
    )
    assert job_of(database, bad).reason == reason
    assert sweep_of(database, bad) == ("succeeded", {"stopped": 1, "succeeded": 1})
    with database.reading() as session:
        assert get_attempt(session, bad, 1).reason == reason
        moves = [event for event in list_events(session, bad, limit=100)[0] if event.kind == "state"]
    assert [(event.to_state, event.reason) for event in moves[-2:]] == [("cancelling", reason), ("cancelled", reason)]


def test_standings_of_members(database: Database) -> None:
    ids = add_sweep(database, HALVING, [member(), member(2, **{"training.epochs": 4}), member()])
    with database.writing() as session:
        for job_id, steps in zip(ids, ([3, 6, 9], [2], []), strict=True):
            move(session, job_id, from_=State.QUEUED, to=State.STARTING)
            attempt = start_attempt(session, job_id, "supervisor")
            points = [Point("val/accuracy", step, math.nan if step == 3 else step / 10, 1) for step in steps]
            record_points(session, job_id, attempt, [*points, Point("val/loss", 3, 7.0, 1)])
            if job_id != ids[0]:
                move(session, job_id, from_=State.STARTING, to=State.FAILED)
        sweep_id = jobs_in(session, [State.STARTING])[0].sweep_id
        assert sweep_id is not None
        found = standings(session, sweep_id, SuccessiveHalving.model_validate(HALVING | {"first": 2}), {})
    # Values at the rungs and the latest value.
    assert found == [
        Standing(ids[0], State.STARTING, 5, {2: 0.6, 3: 0.9}),
        Standing(ids[1], State.FAILED, 4, {1: 0.2}),
        Standing(ids[2], State.FAILED, 5, {}),
    ]
