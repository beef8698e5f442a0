"""Queries for what is not yet exported to MLflow. Indexes make them independent of the number of exported jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, case, exists, func, or_, select

from service.jobs.states import TERMINAL, State
from service.store.models import (
    BEGUN_UNEXPORTED,
    UNBEGUN_UNEXPORTED,
    UNEXPORTED,
    UNEXPORTED_SWEEP,
    Job,
    Metric,
    MlflowRun,
    OrphanedRun,
    Sweep,
)

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


# Without its points, what is new of a job that MLflow has or does not have yet.
NEWS = or_(MlflowRun.job_id.is_(None), MlflowRun.status != case(STATUS, value=Job.state), ~MlflowRun.params_logged)
UNBEGUN_PER_PAGE = 1000


class Backlog(NamedTuple):
    """The number of recorded points that are not exported, and the time of the oldest, in milliseconds since 1970."""

    points: int
    oldest_ms: int | None


def pending_jobs(session: Session) -> Sequence[str]:
    """Return the jobs that have begun, with data that is not exported, oldest first."""
    points = exists().where(Metric.job_id == Job.id, Metric.id > MlflowRun.metric_cursor)
    query = select(Job.id).outerjoin(MlflowRun).where(BEGUN_UNEXPORTED, or_(NEWS, points))
    # A job that is starting needs the CPU for its first step, and will have more to export soon.
    return session.scalars(query.where(Job.state != State.STARTING).order_by(Job.id)).all()


def pending_unbegun(session: Session, after: str, most: int) -> tuple[Sequence[str], str]:
    """Return at most `most` jobs that have not begun and are not exported as they are, and where to go on.

    Many jobs can wait in the queue: one call looks at a page of them, of the ids after `after`.
    """
    news = case((NEWS, 1), else_=0)
    query = select(Job.id, news).outerjoin(MlflowRun).where(UNBEGUN_UNEXPORTED, Job.id > after)
    page = session.execute(query.order_by(Job.id).limit(UNBEGUN_PER_PAGE)).all()
    pending = [job_id for job_id, is_new in page if is_new]
    if len(pending) > most:
        return pending[:most], pending[most - 1]
    return pending, page[-1][0] if len(page) == UNBEGUN_PER_PAGE else ""


def pending_sweeps(session: Session, *, without: Collection[str]) -> Sequence[str]:
    """Return the sweeps whose end is not exported, but all jobs are, except for the jobs in `without`."""
    waits = or_(Job.state.not_in(TERMINAL), Job.id.not_in(without))
    waiting = exists().where(Job.sweep_id == Sweep.id, UNEXPORTED, waits)
    return session.scalars(select(Sweep.id).where(UNEXPORTED_SWEEP, ~waiting).order_by(Sweep.id)).all()


def orphaned_runs(session: Session) -> Sequence[str]:
    """Return the runs of deleted jobs that have to be ended."""
    return session.scalars(select(OrphanedRun.run_id).order_by(OrphanedRun.run_id)).all()


def measure_backlog(session: Session, *, without: Collection[str]) -> Backlog:
    """Return the backlog of all jobs except those in `without`. Jobs that have not begun have no points."""
    waiting = and_(Metric.job_id == Job.id, Metric.id > func.coalesce(MlflowRun.metric_cursor, 0))
    query = select(func.count(), func.min(Metric.id)).select_from(Job).outerjoin(MlflowRun).join(Metric, waiting)
    points, first = session.execute(query.where(BEGUN_UNEXPORTED, Job.id.not_in(without))).one()
    # With None, SQLite would scan the whole table.
    return Backlog(points, None if first is None else session.get_one(Metric, first).time_ms)
