"""Queries for what is not yet exported to MLflow. Indexes make them independent of the number of exported jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, case, exists, func, or_, select

from service.jobs.states import TERMINAL, State
from service.store.models import UNEXPORTED, UNEXPORTED_SWEEP, Job, Metric, MlflowRun, OrphanedRun, Sweep

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.orm import Session

STATUS = {
    State.QUEUED: "SCHEDULED",
    State.STARTING: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.PAUSING: "RUNNING",
    State.PAUSED: "SCHEDULED",
    State.CANCELLING: "RUNNING",
    State.SUCCEEDED: "FINISHED",
    State.FAILED: "FAILED",
    State.CANCELLED: "KILLED",
}


class Backlog(NamedTuple):
    """The number of recorded points that are not exported, and the time of the oldest, in milliseconds since 1970."""

    points: int
    oldest_ms: int | None


def pending_jobs(session: Session) -> Sequence[str]:
    """Return the jobs with data that is not exported, oldest first."""
    points = exists().where(Metric.job_id == Job.id, Metric.id > MlflowRun.metric_cursor)
    news = or_(MlflowRun.status != case(STATUS, value=Job.state), ~MlflowRun.params_logged, points)
    query = select(Job.id).outerjoin(MlflowRun).where(UNEXPORTED, or_(MlflowRun.job_id.is_(None), news))
    # A job that is starting needs the CPU for its first step, and will have more to export soon.
    return session.scalars(query.where(Job.state != State.STARTING).order_by(Job.id)).all()


def pending_sweeps(session: Session, *, without: Collection[str]) -> Sequence[str]:
    """Return the sweeps whose end is not exported, but all jobs are, except for the jobs in `without`."""
    waits = or_(Job.state.not_in(TERMINAL), Job.id.not_in(without))
    waiting = exists().where(Job.sweep_id == Sweep.id, UNEXPORTED, waits)
    return session.scalars(select(Sweep.id).where(UNEXPORTED_SWEEP, ~waiting).order_by(Sweep.id)).all()


def orphaned_runs(session: Session) -> Sequence[str]:
    """Return the runs of deleted jobs that have to be ended."""
    return session.scalars(select(OrphanedRun.run_id).order_by(OrphanedRun.run_id)).all()


def measure_backlog(session: Session, *, without: Collection[str]) -> Backlog:
    """Return the backlog of all jobs except those in `without`."""
    waiting = and_(Metric.job_id == Job.id, Metric.id > func.coalesce(MlflowRun.metric_cursor, 0))
    query = select(func.count(), func.min(Metric.id)).select_from(Job).outerjoin(MlflowRun).join(Metric, waiting)
    points, first = session.execute(query.where(UNEXPORTED, Job.id.not_in(without))).one()
    # With None, SQLite would scan the whole table.
    return Backlog(points, None if first is None else session.get_one(Metric, first).time_ms)
