"""Actions on an existing job: cancel, pause, resume or delete it, or change its resources."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select, update

from service.errors import ConflictError
from service.jobs.events import add_event
from service.jobs.repository import changed, count_ended, move
from service.jobs.states import ACTIONS, TERMINAL, Action, State
from service.store.models import (
    UNEXPORTED,
    Attempt,
    Checkpoint,
    DeletedJob,
    Event,
    Job,
    Label,
    Metric,
    Milestone,
    MlflowRun,
    OrphanedRun,
    Sweep,
    Verification,
)
from service.store.rows import find_or_404

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from workers.job.spec import ResourcesSpec

UNSYNCHRONIZED = {"synchronize_session": False}
POINTS = 5000  # removed in one transaction, so that others do not wait for long

log = logging.getLogger(__name__)


def apply_action(session: Session, job_id: str, action: Action, *, reason: str | None = None) -> bool:
    """Cancel, pause or resume a job; returns False when that was done before.

    A job that no worker has moves to its new state immediately. Any other one moves to a state such as `cancelling`,
    which the scheduler sends to its workers. `reason` is recorded if the action is not a user's.

    Raises NotFoundError, and ConflictError if the job's state does not allow the action.
    """
    job = find_or_404(session, Job, job_id, lock=True)
    state = State(job.state)
    target = ACTIONS[action].get(state)
    if target is None:
        raise ConflictError(_refusal(job_id, state, action))
    if target is state:
        return False
    return move(session, job_id, from_=state, to=target, reason=reason or f"{action}_requested")


def change_resources(session: Session, job_id: str, resources: ResourcesSpec) -> bool:
    """Change the resources of a job, of a running one from its next step on; returns False when nothing changes.

    Raises NotFoundError, and ConflictError for a job that has ended.
    """
    job = find_or_404(session, Job, job_id, lock=True)
    before, after = job.spec["resources"], resources.model_dump(mode="json")
    if before == after and job.state not in TERMINAL:
        return False
    statement = update(Job).where(Job.id == job_id, Job.state.not_in(TERMINAL))
    needs = resources.total
    values = {"spec": {**job.spec, "resources": after}, "cpus": needs["CPU"], "gpus": needs["GPU"]}
    if not changed(session, statement.values(values)):
        raise ConflictError(f"Job {job_id} has ended: {job.state}. Its resources can no longer be changed.")
    add_event(session, job_id, "resources_changed", data={"from": before, "to": after})
    return True


def delete_job(session: Session, job_id: str) -> None:
    """Delete a job that has ended, with its metrics, events and attempts; its run in MLflow remains.

    Of many points, the scheduler removes the rest. A run that has not ended is recorded, so that the exporter ends it.
    Raises NotFoundError, and ConflictError for a job that has not ended or with which the rule of its sweep still
    compares others.
    """
    # On PostgreSQL writers run concurrently: with this lock no other transaction can add a row that refers to the job.
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    job = find_or_404(session, Job, job_id)
    state = State(job.state)
    if state not in TERMINAL:
        raise ConflictError(f"Job {job_id} is {state}: cancel it and wait until it has ended, then delete it.")
    if job.sweep_id is not None and _compares(session, job.sweep_id):
        raise ConflictError(
            f"The stopping rule of {job.sweep_id} compares other jobs with {job_id}: wait until all of them have "
            "ended, then delete it."
        )
    if _remove_points(session, job_id):
        session.add(DeletedJob(job_id=job_id))
    remove_rows(session, Job.id == job_id)


def remove_rows(session: Session, condition: ColumnElement[bool]) -> None:
    """Remove the rows of jobs that have ended, except for their points; the jobs' own are locked.

    Runs that have not ended are recorded, so that the exporter ends them.
    """
    orphans = select(MlflowRun.run_id).join(Job).where(condition, UNEXPORTED)
    session.execute(insert(OrphanedRun).from_select([OrphanedRun.run_id], orphans))
    ids = select(Job.id).where(condition)
    for table in (Milestone, Checkpoint, Event, Attempt, Label, MlflowRun, Verification):
        session.execute(delete(table).where(table.job_id.in_(ids)), execution_options=UNSYNCHRONIZED)
    ended = session.execute(select(Job.state, func.count()).where(condition).group_by(Job.state)).all()
    session.execute(delete(Job).where(condition), execution_options=UNSYNCHRONIZED)
    for state, count in ended:
        count_ended(session, State(state), -count)


def remove_left_points(session: Session, job_id: str) -> None:
    """Remove the next points of a deleted job."""
    if not _remove_points(session, job_id):
        session.execute(delete(DeletedJob).where(DeletedJob.job_id == job_id))


def _remove_points(session: Session, job_id: str) -> bool:
    """Remove points of a job; returns whether there may be more."""
    some = select(Metric.id).where(Metric.job_id == job_id).order_by(Metric.id).limit(POINTS)
    result = session.execute(delete(Metric).where(Metric.id.in_(some)), execution_options=UNSYNCHRONIZED)
    return bool(result.rowcount == POINTS)  # type: ignore[attr-defined]


def remove_files(directory: Path, job_id: str) -> None:
    """Remove a deleted job's directory, after the transaction: a job that still exists needs its checkpoints."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
    except OSError:
        log.exception("job %s is deleted, but its directory %s could not be removed", job_id, directory)


def _compares(session: Session, sweep_id: str) -> bool:
    """Whether a sweep has a stopping rule, and jobs that have not ended."""
    rule = session.scalar(select(Sweep.spec["stopping"]).where(Sweep.id == sweep_id))
    left = select(Job.id).where(Job.sweep_id == sweep_id, Job.state.not_in(TERMINAL)).limit(1)
    return rule is not None and session.scalar(left) is not None


PARTICIPLES = {Action.CANCEL: "cancelled", Action.PAUSE: "paused", Action.RESUME: "resumed"}


def _refusal(job_id: str, state: State, action: Action) -> str:
    if state in TERMINAL:
        return f"Job {job_id} has ended: {state}. It can no longer be {PARTICIPLES[action]}."
    if state is State.PAUSING:
        return f"Job {job_id} is pausing: wait until it is paused, then resume it."
    return f"Job {job_id} is {state}: it can no longer be {PARTICIPLES[action]}."
