"""Deletion of a sweep with its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, insert, select

from service.errors import ConflictError
from service.jobs.actions import remove_rows
from service.jobs.states import TERMINAL
from service.short_text import counted
from service.store.models import UNEXPORTED_SWEEP, DeletedJob, Job, Metric, OrphanedRun, Sweep
from service.store.rows import find_or_404

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def delete_sweep(session: Session, sweep_id: str) -> list[str]:
    """Delete a sweep whose jobs have all ended, with its jobs, whose ids are returned; their runs in MLflow remain.

    The jobs' points are many: the scheduler removes them. Raises NotFoundError, and ConflictError if a job has not
    ended.
    """
    # On PostgreSQL writers run concurrently: with these locks no other transaction can add a row that refers to them.
    locked = select(Job.id, Job.state).where(Job.sweep_id == sweep_id).order_by(Job.id).with_for_update()
    members = session.execute(locked).all()
    session.execute(select(Sweep.id).where(Sweep.id == sweep_id).with_for_update())
    find_or_404(session, Sweep, sweep_id)
    left = [(job_id, state) for job_id, state in members if state not in TERMINAL]
    if left:
        (job_id, state), *others = left
        more = f", and {counted(len(others), 'other job')} of it" if others else ""
        raise ConflictError(
            f"Sweep {sweep_id} has not ended: {job_id} is {state}{more}. Cancel it and wait until all its jobs have "
            "ended, then delete it."
        )
    of_sweep = Job.sweep_id == sweep_id
    with_points = select(Job.id).where(of_sweep, exists().where(Metric.job_id == Job.id))
    session.execute(insert(DeletedJob).from_select([DeletedJob.job_id], with_points))
    orphan = select(Sweep.mlflow_run_id).where(Sweep.id == sweep_id, UNEXPORTED_SWEEP, Sweep.mlflow_run_id.is_not(None))
    session.execute(insert(OrphanedRun).from_select([OrphanedRun.run_id], orphan))
    remove_rows(session, of_sweep)
    session.execute(delete(Sweep).where(Sweep.id == sweep_id))
    return [job_id for job_id, _ in members]
