"""What MLflow does not know yet. Jobs of which it knows all cost nothing here, however many there are."""

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
    """Recorded points that wait for MLflow, and when the oldest was measured, in milliseconds since 1970."""

    points: int
    oldest_ms: int | None


def unexported_jobs(session: Session) -> Sequence[str]:
    """Jobs of which MLflow does not know everything, the oldest first."""
    points = exists().where(Metric.job_id == Job.id, Metric.id > MlflowRun.metric_cursor)
    news = or_(MlflowRun.status != case(STATUS, value=Job.state), ~MlflowRun.params_logged, points)
    query = select(Job.id).outerjoin(MlflowRun).where(UNEXPORTED, or_(MlflowRun.job_id.is_(None), news))
    # A job that is starting needs the machine for its first loss, and will have more to tell in a moment.
    return session.scalars(query.where(Job.state != State.STARTING).order_by(Job.id)).all()


def unexported_sweeps(session: Session, *, without: Collection[str]) -> Sequence[str]:
    """Sweeps whose end is what is left to tell: all their jobs have ended and are told, but for these."""
    waits = or_(Job.state.not_in(TERMINAL), Job.id.not_in(without))
    waiting = exists().where(Job.sweep_id == Sweep.id, UNEXPORTED, waits)
    return session.scalars(select(Sweep.id).where(UNEXPORTED_SWEEP, ~waiting).order_by(Sweep.id)).all()


def orphaned_runs(session: Session) -> Sequence[str]:
    """Runs to be ended whose jobs were deleted."""
    return session.scalars(select(OrphanedRun.run_id).order_by(OrphanedRun.run_id)).all()


def measure_backlog(session: Session, *, without: Collection[str]) -> Backlog:
    """How far MLflow is behind with all jobs but these."""
    waiting = and_(Metric.job_id == Job.id, Metric.id > func.coalesce(MlflowRun.metric_cursor, 0))
    query = select(func.count(), func.min(Metric.id)).select_from(Job).outerjoin(MlflowRun).join(Metric, waiting)
    points, first = session.execute(query.where(UNEXPORTED, Job.id.not_in(without))).one()
    # SQLite would look through the whole table for a row that has no id.
    return Backlog(points, None if first is None else session.get_one(Metric, first).time_ms)
