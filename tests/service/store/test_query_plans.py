"""Queries that run every second or at every scrape do not read all ended jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select

from service.jobs.live.streams import look
from service.jobs.repository import check_room, create_job, jobs_in, list_jobs
from service.jobs.schemas import JobFilter
from service.jobs.series.points import Point
from service.jobs.states import LIVE, State
from service.monitoring.prometheus import Exposition
from service.scheduling.queue import Place, read_page
from service.store.lease import check_token, read_lease
from service.store.models import Base, Job, Metric
from service.sweeps.judging import judge
from service.sweeps.repository import best_values, create_sweep, jobs_of, states_of
from service.sweeps.storing import member_rows
from service.tracking.backlog import measure_backlog, pending_jobs, pending_sweeps, pending_unbegun
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from service.store import Database

# Tables with few rows, and partial indexes of rows that are not completely exported to MLflow.
MAY_BE_SCANNED = {
    "SCAN jobs USING INDEX ix_jobs_begun",
    "SCAN jobs USING COVERING INDEX ix_jobs_begun",
    "SCAN sweeps USING INDEX ix_sweeps_unexported",
    "SCAN sweeps USING COVERING INDEX ix_sweeps_unexported",
    "SCAN ended_jobs",
    "SCAN incidents",
}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def add_job(database: Database) -> str:
    with database.writing() as session:
        job, _ = create_job(session, spec=hinge_job(), dataset={}, total_steps=1, body_sha256="b")
        session.add(Metric(job_id=job.id, **Point("train/loss", 1, 0.5, 1)._asdict()))
        return job.id


def plans(database: Database, query: Callable[[], Any]) -> list[str]:
    """The query plans of the statements that `query` executes."""
    executed: list[tuple[str, Any]] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        executed.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", record)
    try:
        query()
    finally:
        event.remove(database.engine, "before_cursor_execute", record)
    steps: list[str] = []
    with database.engine.connect() as connection:
        for statement, parameters in executed:
            if statement.startswith("SELECT"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                steps += [row[-1] for row in rows]
    return steps


def scans(database: Database, query: Callable[[], Any]) -> list[str]:
    """The full table scans of the statements that `query` executes."""
    steps = plans(database, query)
    assert steps, "at least one statement is executed"
    scanned = [step for step in steps if step.startswith("SCAN") and step.split()[1] in Base.metadata.tables]
    return [step for step in scanned if step not in MAY_BE_SCANNED]


def reading(database: Database, query: Callable[[Session], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with database.reading() as session:
            return query(session)

    return run


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize(
    "query",
    [
        pending_jobs,
        lambda session: pending_sweeps(session, without=["job_1"]),
        lambda session: measure_backlog(session, without=[]),
        lambda session: measure_backlog(session, without=["job_1"]),
        lambda session: pending_unbegun(session, "", 20),
        lambda session: jobs_in(session, LIVE),
        lambda session: read_page(session, None),
        lambda session: read_page(session, Place(1, "job_1"), Job.cpus <= 4),
        lambda session: check_room(session, 10),
        read_lease,
        lambda session: check_token(session, 0),
        lambda session: states_of(session, ["sweep_1"]),
        lambda session: jobs_of(session, "sweep_1"),
        lambda session: best_values(session, "sweep_1"),
        lambda session: list_jobs(session, JobFilter(sweep="sweep_1")),
    ],
    ids=[
        *("unexported", "unexported sweeps", "backlog", "backlog without", "unbegun"),
        *("scheduler", "front", "next page", "room", "lease", "token"),
        *("states", "members", "bests", "page"),
    ],
)
def test_no_query_scans_all_jobs(database: Database, query: Callable[[Session], Any], analyzed: bool) -> None:
    add_job(database)
    if analyzed:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
    assert scans(database, reading(database, query)) == []


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("stopping", [{"type": "median"}, {"type": "halving"}], ids=lambda stopping: stopping["type"])
def test_a_stopping_rule_reads_only_its_members(database: Database, stopping: dict[str, Any], analyzed: bool) -> None:
    for _ in range(20):
        add_job(database)
    spec = {"name": "s", "experiment": "e", "parallel": None, "stopping": stopping | {"metric": "val/loss"}}
    member = {"spec": hinge_job(), "dataset": {}, "total_steps": 20, "body_sha256": "b"}
    with database.writing() as session:
        create_sweep(session, spec=spec, members=member_rows([member]), body_sha256="b")
    if analyzed:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
    with database.reading() as session:
        jobs = jobs_in(session, [State.QUEUED])
    assert scans(database, reading(database, lambda session: judge(session, jobs, {}))) == []


def test_an_empty_backlog_needs_no_scan(database: Database) -> None:
    assert scans(database, reading(database, lambda session: measure_backlog(session, without=[]))) == []


def test_streams_read_only_watched_jobs(database: Database) -> None:
    assert scans(database, lambda: look(database, {add_job(database): 0})) == []


def test_a_scrape_does_not_scan_ended_jobs(database: Database) -> None:
    assert scans(database, lambda: list(Exposition(database).collect())) == []


def test_a_scan_is_found(database: Database) -> None:
    assert scans(database, reading(database, lambda session: session.scalars(select(Job.name)).all())) == ["SCAN jobs"]


def test_the_queue_is_read_in_the_order_of_its_index(database: Database) -> None:
    """Nothing is sorted, so that a page does not read the jobs behind it."""
    add_job(database)
    for after in (None, Place(1, "job_1")):
        steps = plans(
            database, reading(database, lambda session, after=after: read_page(session, after, Job.cpus <= 4))
        )
        assert all("ix_jobs_queue" in step for step in steps), steps


def test_a_long_queue_is_exported_a_page_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tracking.backlog.UNBEGUN_PER_PAGE", 4)
    jobs = [add_job(database) for _ in range(10)]
    seen: list[str] = []
    after, pages = "", 0
    while pages == 0 or after:
        with database.reading() as session:
            pending, after = pending_unbegun(session, after, 3)
        assert len(pending) <= 3
        seen += pending
        pages += 1
    assert seen == jobs
