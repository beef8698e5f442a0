from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ray.exceptions import RayError, RayTaskError

from service.errors import ConflictError
from service.jobs.actions import apply_action, change_resources
from service.jobs.events import list_events
from service.jobs.recording import max_restarts, record_events
from service.jobs.repository import create_job, get_attempt, move, start_attempt
from service.jobs.series.points import read_series
from service.jobs.states import LIVE, TERMINAL, Action, State
from service.scheduling.scheduler import Scheduler
from service.store.models import Job
from tests.service.fakes.cluster import FakeAttempt, FakeCluster
from tests.service.fixtures.support import hinge_job, wait_until
from workers.job.spec import JobSpec, ResourcesSpec
from workers.record.events import Checkpointed, Ended, Noted, Progress, Restarted, Series, Started, Waiting

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store import Database
    from service.store.models import Event

DATASET = {"digest": "00", "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}
STARTED = Started(step=0, workers=2, fingerprint={"numpy": "2"}, changed={})
SUCCEEDED = Ended("succeeded", "completed")
PAUSED = Ended("paused", "paused_by_user")


def add_job(database: Database, *, priority: int = 0, **changes: Any) -> str:
    spec = JobSpec.model_validate(hinge_job(**changes)).model_dump(mode="json")
    with database.writing() as session:
        job, _ = create_job(session, spec=spec, dataset=DATASET, total_steps=40, body_sha256="b", priority=priority)
        return job.id


def job_of(database: Database, job_id: str) -> Job:
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return job


def events_of(database: Database, job_id: str, *kinds: str) -> list[Event]:
    with database.reading() as session:
        return [event for event in list_events(session, job_id, limit=1000)[0] if event.kind in kinds]


def act(database: Database, job_id: str, action: Action) -> None:
    with database.writing() as session:
        apply_action(session, job_id, action)


def wait_for_state(database: Database, job_id: str, state: State) -> Job:
    wait_until(lambda: job_of(database, job_id).state == state, f"{job_id} is {state}")
    return job_of(database, job_id)


def wait_for_attempt(cluster: FakeCluster, count: int) -> FakeAttempt:
    """Wait for `count` attempts; returns the latest."""
    wait_until(lambda: len(cluster.attempts) >= count, f"attempt {count}")
    assert len(cluster.attempts) == count
    return cluster.attempts[-1]


def progress(step: int, value: float = 0.5) -> Progress:
    series = Series(np.array([step]), np.array([value]), np.array([1000 + step]))
    return Progress(epoch=step // 2, step=step, series={"train/loss": series})


@pytest.mark.usefixtures("scheduler")
def test_life_of_a_job(database: Database, cluster: FakeCluster) -> None:
    job_id = add_job(database)
    attempt = wait_for_attempt(cluster, 1)
    assert (attempt.assignment.reported_step, attempt.assignment.restarts_left) == (0, 3)
    assert wait_for_state(database, job_id, State.STARTING).attempt == 1
    with database.reading() as session:
        assert get_attempt(session, job_id, 1).supervisor == attempt.supervisor
    attempt.report(STARTED)
    wait_for_state(database, job_id, State.RUNNING)
    attempt.report(progress(1), Noted("room", {"workers": 2}), Checkpointed(1, "ab" * 32), SUCCEEDED)
    job = wait_for_state(database, job_id, State.SUCCEEDED)
    assert (job.step, job.params_sha256, job.restarts) == (1, "ab" * 32, 0)
    recorded = events_of(database, job_id, "training_started", "room")
    assert [event.data for event in recorded] == [
        {"step": 0, "workers": 2, "fingerprint": {"numpy": "2"}, "changed": {}}, {"workers": 2},
    ]  # fmt: skip
    wait_until(lambda: ("back", attempt.supervisor) in cluster.pool, "the supervisor is returned")
    assert attempt.calls == []


@pytest.mark.usefixtures("scheduler")
def test_a_paused_job_continues_in_a_new_attempt(database: Database, cluster: FakeCluster) -> None:
    job_id = add_job(database)
    first = wait_for_attempt(cluster, 1)
    first.report(STARTED, progress(6))
    wait_until(lambda: job_of(database, job_id).step == 6, "step 6")
    act(database, job_id, Action.PAUSE)
    wait_until(lambda: "pause" in first.calls, "the attempt is paused")
    first.report(PAUSED)
    assert wait_for_state(database, job_id, State.PAUSED).finished_at is None
    wait_until(lambda: ("back", first.supervisor) in cluster.pool, "the supervisor is returned")

    with database.writing() as session:
        assert change_resources(session, job_id, ResourcesSpec(workers=1))
    act(database, job_id, Action.RESUME)
    second = wait_for_attempt(cluster, 2)
    assert (second.assignment.reported_step, second.assignment.restarts_left) == (6, 3)
    assert second.assignment.spec["resources"]["workers"] == 1
    second.report(Started(step=5, workers=1, fingerprint={}, changed={}), SUCCEEDED)
    assert wait_for_state(database, job_id, State.SUCCEEDED).restarts == 0
    assert second.calls == []


@pytest.mark.usefixtures("scheduler")
def test_a_queued_job_is_paused_immediately_and_others_start(database: Database, cluster: FakeCluster) -> None:
    cluster.resources["CPU"] = 2
    add_job(database)
    wait_for_attempt(cluster, 1)
    second, third = add_job(database), add_job(database)
    act(database, second, Action.PAUSE)
    assert job_of(database, second).state == State.PAUSED
    cluster.attempts[0].report(STARTED, SUCCEEDED)
    assert wait_for_attempt(cluster, 2).assignment.job == third
    act(database, second, Action.CANCEL)
    assert job_of(database, second).state == State.CANCELLED


@pytest.mark.usefixtures("scheduler")
def test_jobs_wait_for_gpus(database: Database, cluster: FakeCluster) -> None:
    cluster.resources = {"CPU": 8, "GPU": 1}
    on_a_gpu = {"resources.workers": 1, "resources.gpus_per_worker": 1}
    add_job(database, **on_a_gpu)
    wait_for_attempt(cluster, 1)
    second, without = add_job(database, **on_a_gpu), add_job(database)
    reason = "waiting_for_gpus: needs 1 GPUs, and 0 of the cluster's 1 are free"
    wait_until(lambda: job_of(database, second).reason == reason, "the reason is recorded")
    assert len(cluster.attempts) == 1, "the job without a GPU waits for its turn"
    cluster.attempts[0].report(STARTED, SUCCEEDED)
    wait_for_attempt(cluster, 3)
    assert [attempt.assignment.job for attempt in cluster.attempts[1:]] == [second, without]


@pytest.mark.usefixtures("scheduler")
def test_every_queued_job_has_a_reason(database: Database, cluster: FakeCluster, settings: Settings) -> None:
    settings.max_running_jobs = 1
    first = add_job(database)
    wait_for_attempt(cluster, 1)
    second, third, urgent = add_job(database), add_job(database), add_job(database, priority=5)

    def reasons() -> list[str | None]:
        return [job_of(database, job_id).reason for job_id in (urgent, second, third)]

    behind = [f"waiting_for_turn: behind {job_id}" for job_id in (urgent, second)]
    wait_until(lambda: reasons() == ["waiting_for_other_jobs: 1 of at most 1 jobs run", *behind], "the reasons")
    cluster.resources["CPU"] = 1
    wait_until(
        lambda: reasons() == ["cluster_too_small: needs 2 CPUs, and the whole cluster has 1"] * 3,
        "the reasons",
    )
    cluster.resources["CPU"] = 2
    cluster.attempts[0].report(STARTED, SUCCEEDED)
    assert wait_for_attempt(cluster, 2).assignment.job == urgent
    assert wait_for_state(database, first, State.SUCCEEDED).reason == "completed"
    assert job_of(database, urgent).reason is None


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(
    ("end", "state"),
    [
        (Ended("lost", "supervisor_lost"), State.PAUSED),
        (SUCCEEDED, State.SUCCEEDED),
        (Ended("failed", "non_finite_loss"), State.FAILED),
    ],
)
def test_end_of_a_pausing_job(database: Database, cluster: FakeCluster, end: Ended, state: State) -> None:
    job_id = add_job(database)
    attempt = wait_for_attempt(cluster, 1)
    attempt.report(STARTED)
    wait_for_state(database, job_id, State.RUNNING)
    act(database, job_id, Action.PAUSE)
    attempt.report(end)
    assert wait_for_state(database, job_id, state).restarts == 0
    wanted = ("back", attempt.supervisor) if end is SUCCEEDED else "dismiss"
    wait_until(lambda: wanted in [*cluster.pool, *attempt.calls], "the supervisor is given back or dismissed")


@pytest.mark.usefixtures("scheduler")
def test_lost_attempts_count_as_restarts_and_are_limited(database: Database, cluster: FakeCluster) -> None:
    job_id = add_job(database, max_restarts=2)
    first = wait_for_attempt(cluster, 1)
    first.report(STARTED, progress(4), Restarted("worker_lost", "a worker was killed"))
    wait_until(lambda: job_of(database, job_id).restarts == 1, "the restart within the attempt")
    first.lose()
    second = wait_for_attempt(cluster, 2)
    assert (second.assignment.reported_step, second.assignment.restarts_left) == (4, 0)
    assert job_of(database, job_id).restarts == 2
    second.report(STARTED, progress(3))
    wait_until(lambda: read_steps(database, job_id) == [3, 4], "the point of step 3")
    assert job_of(database, job_id).step == 4
    second.report(Ended("lost", "worker_silent", "worker 1 says nothing"))
    job = wait_for_state(database, job_id, State.FAILED)
    assert job.restarts == 2
    assert job.reason == (
        "too_many_restarts: max_restarts allows 2, and once more worker_silent: worker 1 says nothing"
    )
    restarts = events_of(database, job_id, "restarted")
    assert [(event.attempt, event.reason, event.data) for event in restarts] == [
        (1, "worker_lost", {"message": "a worker was killed"}),
        (1, "supervisor_lost", {"message": "the supervisor is gone"}),
    ]


def test_specs_of_the_first_version_allow_restarts() -> None:
    assert "max_restarts" not in hinge_job()
    assert max_restarts(hinge_job()) == 3
    assert max_restarts(hinge_job(max_restarts=0)) == 0


def read_steps(database: Database, job_id: str) -> list[int]:
    with database.reading() as session:
        return read_series(session, job_id)["train/loss"].steps


@pytest.mark.usefixtures("scheduler")
def test_an_attempt_is_resized_once(database: Database, cluster: FakeCluster) -> None:
    job_id = add_job(database)
    attempt = wait_for_attempt(cluster, 1)
    for workers in (1, 3):
        with database.writing() as session:
            change_resources(session, job_id, ResourcesSpec(workers=workers))
        wait_until(lambda: attempt.calls[-1:] == [ResourcesSpec(workers=workers)], "the attempt is resized")  # noqa: B023
    act(database, job_id, Action.CANCEL)
    wait_until(lambda: "cancel" in attempt.calls, "the attempt is cancelled")
    attempt.report(Ended("cancelled", "cancelled_by_user"))
    wait_for_state(database, job_id, State.CANCELLED)
    assert [call for call in attempt.calls if call != "cancel"] == [ResourcesSpec(workers=1), ResourcesSpec(workers=3)]


def test_a_new_scheduler_adopts_running_attempts_and_writes_nothing_twice(
    database: Database, settings: Settings, cluster: FakeCluster
) -> None:
    running, lost = add_job(database), add_job(database)
    first_scheduler = Scheduler(database, settings, cluster)
    first_scheduler.start()
    wait_for_attempt(cluster, 2)
    first, second = cluster.attempts
    first.report(STARTED, Restarted("worker_lost", "it was killed"), progress(2))
    wait_until(lambda: job_of(database, running).step == 2, "step 2")
    first_scheduler.stop()
    second.lose()
    first.report(progress(3), Restarted("worker_lost", "again"))
    scheduler = Scheduler(database, settings, cluster)
    scheduler.start()
    try:
        third = wait_for_attempt(cluster, 3)
        assert (third.assignment.job, third.assignment.attempt) == (lost, 2)
        assert job_of(database, lost).restarts == 0, "a restart of the service is not counted for the job"
        wait_until(lambda: job_of(database, running).step == 3, "step 3")
        first.report(SUCCEEDED)
        third.report(STARTED, SUCCEEDED)
        assert wait_for_state(database, running, State.SUCCEEDED).restarts == 2
        wait_for_state(database, lost, State.SUCCEEDED)
    finally:
        scheduler.stop()
    assert ("adopt", {first.supervisor}) in cluster.pool
    assert Counter(event.kind for event in events_of(database, running, "restarted", "training_started")) == {
        "restarted": 2, "training_started": 1,
    }  # fmt: skip


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize("started", [True, False])
def test_an_attempt_whose_start_is_uncertain(database: Database, cluster: FakeCluster, started: bool) -> None:
    wait_until(lambda: cluster.pool, "the first pass has ended")
    cluster.start_errors, cluster.loses_failed_starts = [RayError("no response")], not started
    job_id = add_job(database)
    attempt = wait_for_attempt(cluster, 1 if started else 2)
    attempt.report(STARTED, SUCCEEDED)
    assert wait_for_state(database, job_id, State.SUCCEEDED).restarts == 0, "nothing was lost"
    assert attempt.assignment.attempt == (1 if started else 2)


@pytest.mark.usefixtures("scheduler")
def test_attempts_that_never_begin_are_no_restarts(database: Database, cluster: FakeCluster) -> None:
    """However often: the job has lost nothing. Their supervisors are killed, in case they begin later."""
    job_id = add_job(database, max_restarts=1)
    for count in range(1, 5):
        attempt = wait_for_attempt(cluster, count)
        assert attempt.assignment.restarts_left == 1
        attempt.never_begin()
        wait_until(lambda calls=attempt.calls: calls == ["dismiss"], "the supervisor is killed")
    wait_for_attempt(cluster, 5).report(STARTED, SUCCEEDED)
    assert wait_for_state(database, job_id, State.SUCCEEDED).restarts == 0
    with database.reading() as session:
        ends = [get_attempt(session, job_id, number).reason for number in range(1, 5)]
    assert ends == ["supervisor_lost: the supervisor has not begun the attempt for 120 s"] * 4


@pytest.mark.usefixtures("scheduler")
def test_an_attempt_that_is_refused_again_and_again_fails(database: Database, cluster: FakeCluster) -> None:
    refused = RayTaskError("begin", "Traceback", ValueError("an old spec")).as_instanceof_cause()
    cluster.start_errors = [refused, refused]
    job = wait_for_state(database, add_job(database, max_restarts=1), State.FAILED)
    assert (job.attempt, job.restarts) == (2, 1)
    assert job.reason == (
        "too_many_restarts: max_restarts allows 1, and once more supervisor_lost: the supervisor refused the attempt"
    )
    assert [("end", attempt.supervisor) in cluster.pool for attempt in cluster.attempts] == [True, True]


@pytest.mark.usefixtures("scheduler")
def test_a_job_that_starts_says_what_it_waits_for(
    database: Database, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.scheduling.scheduler.RECLAIM", 0.05)
    cluster.slow = True
    job_id = add_job(database)
    attempt = wait_for_attempt(cluster, 1)
    slow = "waiting_for_supervisor: its process has not begun the attempt yet; the machine is busy"
    wait_until(lambda: job_of(database, job_id).reason == slow, "the reason")
    wait_until(lambda: "reclaim" in cluster.pool, "reservations without a supervisor are removed")
    busy = "waiting_for_resources: needs 2 CPUs, which were not free for 5 s"
    attempt.report(Waiting(busy))
    wait_until(lambda: job_of(database, job_id).reason == busy, "the other reason")
    assert job_of(database, job_id).state == State.STARTING
    attempt.report(STARTED)
    assert wait_for_state(database, job_id, State.RUNNING).reason is None
    attempt.report(Waiting(busy))
    wait_until(lambda: job_of(database, job_id).reason == busy, "the reason of a job that waits for new workers")
    attempt.report(STARTED)
    wait_until(lambda: job_of(database, job_id).reason is None, "no reason")
    act(database, job_id, Action.CANCEL)
    attempt.report(Waiting(busy), Ended("cancelled", "cancelled_by_user"))
    assert wait_for_state(database, job_id, State.CANCELLED).reason == "cancelled_by_user"


@pytest.mark.usefixtures("scheduler")
def test_jobs_continue_after_a_restart_of_the_cluster(database: Database, cluster: FakeCluster) -> None:
    running, pausing = add_job(database), add_job(database)
    wait_for_attempt(cluster, 2)
    for attempt in cluster.attempts:
        attempt.report(STARTED)
    wait_for_state(database, running, State.RUNNING)
    wait_for_state(database, pausing, State.RUNNING)
    act(database, pausing, Action.PAUSE)
    cluster.dead = True
    third = wait_for_attempt(cluster, 3)
    assert cluster.restarts == 1
    assert third.assignment.job == running
    assert job_of(database, pausing).state == State.PAUSED
    third.report(STARTED, SUCCEEDED)
    job = wait_for_state(database, running, State.SUCCEEDED)
    (event,) = events_of(database, running, "restarted")
    assert (job.restarts, event.reason) == (1, "cluster_lost")


@pytest.mark.usefixtures("scheduler")
def test_the_scheduler_waits_for_an_external_cluster(database: Database, cluster: FakeCluster) -> None:
    running = add_job(database)
    wait_for_attempt(cluster, 1).report(STARTED)
    wait_for_state(database, running, State.RUNNING)
    cluster.dead = cluster.unreachable = True
    wait_until(lambda: cluster.failed_restarts > 2, "the scheduler tries to join the cluster again")
    assert job_of(database, running).state == State.RUNNING, "the state of the attempt is unknown"
    cluster.unreachable = False
    wait_for_attempt(cluster, 2).report(STARTED, SUCCEEDED)
    assert wait_for_state(database, running, State.SUCCEEDED).restarts == 1


@pytest.mark.usefixtures("scheduler")
def test_attempts_that_survive_a_lost_connection_continue(database: Database, cluster: FakeCluster) -> None:
    running = add_job(database)
    wait_for_attempt(cluster, 1).report(STARTED)
    wait_for_state(database, running, State.RUNNING)
    cluster.dead = cluster.keeps_attempts = True
    wait_until(lambda: cluster.restarts == 1, "the cluster is joined again")
    cluster.attempts[0].report(progress(1), SUCCEEDED)
    job = wait_for_state(database, running, State.SUCCEEDED)
    assert (job.restarts, len(cluster.attempts), read_steps(database, running)) == (0, 1, [1])


@pytest.mark.usefixtures("scheduler")
def test_a_supervisor_is_kept_warm_while_the_scheduler_is_idle(database: Database, cluster: FakeCluster) -> None:
    wait_until(lambda: cluster.pool[-1:] == ["warm"], "a warm supervisor is kept")
    job_id = add_job(database)
    attempt = wait_for_attempt(cluster, 1)
    warm = cluster.pool.count("warm")
    attempt.report(STARTED)
    wait_for_state(database, job_id, State.RUNNING)
    act(database, job_id, Action.CANCEL)
    wait_until(lambda: attempt.calls.count("cancel") == 2, "two passes have ended")
    assert cluster.pool.count("warm") == warm
    attempt.report(Ended("cancelled", "cancelled_by_user"))
    wait_until(lambda: cluster.pool[-1:] == ["warm"] and cluster.pool.count("warm") > warm, "a second warm supervisor")
    assert cluster.pool.index(("back", attempt.supervisor)) < len(cluster.pool) - 1


ENDS = [
    SUCCEEDED, PAUSED, Ended("cancelled", "cancelled_by_user"), Ended("failed", "storage_error"),
    Ended("lost", "worker_lost"), Ended("interrupted", "service_restarted"),
]  # fmt: skip


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from([*Action, STARTED, Restarted("worker_lost", ""), *ENDS]), max_size=25))
def test_any_order_of_actions_and_events_gives_a_history_without_gaps(database: Database, steps: list[Any]) -> None:
    job_id = add_job(database)
    with database.writing() as session:
        for count, step in enumerate(steps, 1):
            job = session.get(Job, job_id, populate_existing=True)
            assert job is not None
            if job.state == State.QUEUED:
                start_attempt(session, job_id, "supervisor")
                move(session, job_id, from_=State.QUEUED, to=State.STARTING)
            if isinstance(step, Action):
                try:
                    apply_action(session, job_id, step)
                except ConflictError:
                    continue
            elif job.attempt:
                if isinstance(step, Restarted) and job.restarts == 3:
                    continue  # a supervisor does not exceed max_restarts
                # An attempt starts before it succeeds.
                events = [STARTED, step] if step == SUCCEEDED else [step]
                record_events(session, job_id, job.attempt, [(count * 2 + n, each) for n, each in enumerate(events)])
        job = session.get(Job, job_id, populate_existing=True)
        assert job is not None
        events = list_events(session, job_id, limit=1000)[0]
        moves = [event for event in events if event.kind == "state"]
        assert moves[0].from_state is None
        assert all(before.to_state == after.from_state for before, after in pairwise(moves))
        assert moves[-1].to_state == job.state
        assert [event.kind for event in events].count("restarted") == job.restarts <= 3
        assert (job.finished_at is not None) == (job.state in TERMINAL)
        if job.attempt:
            assert (get_attempt(session, job_id, job.attempt).finished_at is None) == (job.state in LIVE)
