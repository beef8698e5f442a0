"""What a pass of the scheduler reads does not depend on the number of jobs that wait."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from service.jobs.repository import create_job, jobs_in, move, note_waiting, record_progress, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import LIVE, State
from service.scheduling import queue as queue_module
from service.scheduling.queue import PAGE, Queue
from service.store.models import Job
from service.sweeps.repository import create_sweep
from service.sweeps.storing import member_rows
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.scheduling.queue import Decisions
    from service.store import Database

CAPACITY = {"CPU": 4.0, "GPU": 0.0}
LEVELS = [["x86-64-v2", "x86-64-v3"], ["x86-64-v2"]]
DATASET = {"digest": "00", "path": "x", "rows": 300, "features": 8, "classes": ["0", "1"]}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAGE == 100
    monkeypatch.setattr(queue_module, "PAGE", 5)


def new_job(**changes: Any) -> dict[str, Any]:
    spec = JobSpec.model_validate(hinge_job(**changes)).model_dump(mode="json")
    return {"spec": spec, "dataset": DATASET, "total_steps": 40, "body_sha256": "b"}


def add_jobs(database: Database, count: int, *, priority: int = 0, **changes: Any) -> list[str]:
    with database.writing() as session:
        new = new_job(**changes)
        return [create_job(session, **new, priority=priority)[0].id for _ in range(count)]  # type: ignore[arg-type]


def add_sweep(database: Database, count: int, parallel: int | None, stopping: Any = None) -> list[str]:
    spec = {"name": "s", "experiment": "e", "parallel": parallel, "stopping": stopping}
    members = [new_job(**{"resources.workers": 1}) for _ in range(count)]
    with database.writing() as session:
        sweep, _ = create_sweep(session, spec=spec, members=member_rows(members), body_sha256="b")  # type: ignore[arg-type]
        return [job.id for job in jobs_in(session, [State.QUEUED]) if job.sweep_id == sweep.id]


def decide(database: Database, queue: Queue) -> Decisions:
    with database.reading() as session:
        return queue.decide(session, jobs_in(session, LIVE), CAPACITY, LEVELS, None)


def run_pass(database: Database, queue: Queue) -> Decisions:
    """A pass that starts what it decides to start."""
    decisions = decide(database, queue)
    with database.writing() as session:
        for job_id in decisions.starting:
            start_attempt(session, job_id, "supervisor")
            move(session, job_id, from_=State.QUEUED, to=State.STARTING)
        for job_id, reason in decisions.reasons.items():
            note_waiting(session, job_id, reason)
    return decisions


@contextmanager
def counted(database: Database, containing: str = "") -> Iterator[dict[str, int]]:
    """Count the statements that contain a text, and the jobs that are read."""
    counts = {"statements": 0, "jobs": 0}

    def statement(_connection: object, _cursor: object, text: str, *_: object) -> None:
        counts["statements"] += containing in text

    def job(*_: object) -> None:
        counts["jobs"] += 1

    event.listen(database.engine, "before_cursor_execute", statement)
    event.listen(Job, "load", job)
    try:
        yield counts
    finally:
        event.remove(database.engine, "before_cursor_execute", statement)
        event.remove(Job, "load", job)


def reasons(database: Database) -> list[str | None]:
    with database.reading() as session:
        return [job.reason for job in jobs_in(session, [State.QUEUED])]


WAITING = {
    "jobs": add_jobs,
    "jobs of many priorities": lambda database, count: [
        add_jobs(database, 1, priority=number % 7) for number in range(count)
    ],
    "jobs that are too big": lambda database, count: add_jobs(database, count, **{"resources.workers": 50}),
    "members of a full sweep": lambda database, count: add_sweep(database, count, parallel=1),
}


@pytest.mark.parametrize("waiting", WAITING)
def test_a_pass_does_not_depend_on_the_jobs_that_wait(database: Database, waiting: str) -> None:
    add_jobs(database, 1)
    found = []
    for more in (20, 180):
        WAITING[waiting](database, more)
        queue = Queue()
        for _ in range(3):
            run_pass(database, queue)
        with counted(database) as counts:
            decisions = run_pass(database, queue)
        assert decisions.starting == []
        found.append(counts["jobs"])
        assert counts["statements"] - len(decisions.reasons) <= 15
    few, many = found
    assert many <= few + 5
    assert many <= 2 + 3 * 5, "live jobs, and pages of five"


def test_the_jobs_that_fit_start_in_order_wherever_they_wait(database: Database) -> None:
    """Behind jobs that others may overtake, and over the end of a page."""
    add_jobs(database, 12, priority=9, **{"resources.workers": 50})
    members = add_sweep(database, 17, parallel=1)
    small = add_jobs(database, 8, **{"resources.workers": 1})
    urgent = add_jobs(database, 1, priority=3)
    assert decide(database, Queue()).starting == [*urgent, members[0], small[0]]


def test_every_waiting_job_has_its_reason_after_some_passes(database: Database) -> None:
    first = add_jobs(database, 23)
    big = add_jobs(database, 6, priority=-1, **{"resources.workers": 50})
    queue = Queue()
    for _ in range(8):
        run_pass(database, queue)
    assert reasons(database)[0] == "waiting_for_cpus: needs 2 CPUs, and 0 of the cluster's 4 are free"
    assert reasons(database)[1:21] == [f"waiting_for_turn: behind {job_id}" for job_id in first[2:-1]]
    assert set(reasons(database)[21:]) == {"cluster_too_small: needs 50 CPUs, and the whole cluster has 4"}
    assert len(big) == 6
    assert run_pass(database, queue).reasons == {}, "nothing is written again"


def test_an_empty_queue(database: Database) -> None:
    assert decide(database, Queue()).empty
    add_jobs(database, 1, **{"resources.workers": 50})
    assert not decide(database, Queue()).empty


def test_values_of_members_that_have_not_gone_on_are_not_read_again(database: Database) -> None:
    """The decisions are the same as those of a scheduler that has just started."""
    rule = {"type": "median", "metric": "val/accuracy", "after_epochs": 1, "members": 1}
    members = add_sweep(database, 3, None, rule)
    queue = Queue()
    run_pass(database, queue)
    for step, accuracies in ((2, (0.5, 0.5, 0.5)), (4, (0.9, 0.6, 0.1))):
        with database.writing() as session:
            for job_id, accuracy in zip(members, accuracies, strict=True):
                if step == 2:
                    move(session, job_id, from_=State.STARTING, to=State.RUNNING)
                record_points(session, job_id, 1, [Point("val/accuracy", step, accuracy, 1)])
                record_progress(session, job_id, 1, epoch=step // 2, step=step)
        decisions = decide(database, queue)
        assert decisions.judgement == decide(database, Queue()).judgement
        with counted(database, "FROM metrics") as counts:
            assert decide(database, queue).judgement == decisions.judgement
        assert counts["statements"] == 0
    assert list(decisions.judgement.stop) == [members[2]]


def test_a_job_whose_level_of_arithmetic_no_node_has_is_overtaken(database: Database) -> None:
    (waiting,) = add_jobs(database, 1, **{"training.arithmetic": "x86-64-v4", "resources.workers": 1})
    ready = add_jobs(database, 2, **{"training.arithmetic": "x86-64-v3", "resources.workers": 1})
    decisions = decide(database, Queue())
    assert decisions.starting == ready
    assert decisions.reasons == {
        waiting: "waiting_for_arithmetic: needs a node with x86-64-v4, and the nodes have x86-64-v2, x86-64-v3"
    }
