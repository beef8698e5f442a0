"""What users ask of a job that is there: to cancel, pause, resume or delete it, and to run it on something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from service.jobs.events import add_event
from service.jobs.repository import changed, count_ended, lock_job, move
from service.jobs.states import REQUESTS, TERMINAL, Request, State
from service.store.models import UNTOLD, Attempt, Event, Job, Label, Metric, MlflowRun, OrphanedRun, Sweep

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from workers.job.spec import ResourcesSpec


class NotPossibleError(Exception):
    """The job is in a state in which what was asked can not be done; the text is a sentence that says why."""


def make_request(session: Session, job_id: str, request: Request, *, reason: str | None = None) -> bool:
    """Do what a user asks: at once where no worker has the job, else by moving it to a state that its workers are told.

    A `reason` is given where it is not a user who asks.
    False when that was done before. Raises NotPossibleError where the job's state does not allow it, LookupError for
    an unknown job.
    """
    job = lock_job(session, job_id)
    if job is None:
        raise LookupError(job_id)
    state = State(job.state)
    target = REQUESTS[request].get(state)
    if target is None:
        raise NotPossibleError(_refusal(job_id, state, request))
    if target is state:
        return False
    return move(session, job_id, from_=state, to=target, reason=reason or f"{request}_requested")


def change_resources(session: Session, job_id: str, resources: ResourcesSpec) -> bool:
    """Change what a job runs on, from its next step on where it runs; False when it is the same already.

    Raises NotPossibleError for a job that has ended, LookupError for an unknown one.
    """
    job = lock_job(session, job_id)
    if job is None:
        raise LookupError(job_id)
    before, after = job.spec["resources"], resources.model_dump(mode="json")
    if before == after and job.state not in TERMINAL:
        return False
    statement = update(Job).where(Job.id == job_id, Job.state.not_in(TERMINAL))
    if not changed(session, statement.values(spec={**job.spec, "resources": after})):
        raise NotPossibleError(f"Job {job_id} has ended: {job.state}. It needs no other resources any more.")
    add_event(session, job_id, "resources_changed", data={"from": before, "to": after})
    return True


def delete_job(session: Session, job_id: str) -> None:
    """Remove an ended job and all that is known of it; its run in MLflow stays, and is ended if it was not.

    Raises NotPossibleError for a job that has not ended, or with which its sweep still compares others, LookupError for
    an unknown one.
    """
    # Where writers do not exclude each other, the lock keeps new rows from referring to the job.
    row = session.execute(select(Job.state, Job.sweep_id).where(Job.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise LookupError(job_id)
    state, sweep_id = row
    if state not in TERMINAL:
        raise NotPossibleError(f"Job {job_id} is {state}: cancel it and wait until it has ended, then delete it.")
    if sweep_id is not None and _compares(session, sweep_id):
        raise NotPossibleError(
            f"The stopping rule of {sweep_id} compares other jobs with {job_id}: wait until all of them have ended, "
            "then delete it."
        )
    orphans = select(MlflowRun.run_id).join(Job).where(Job.id == job_id, UNTOLD)
    session.execute(insert(OrphanedRun).from_select([OrphanedRun.run_id], orphans))
    for table in (Metric, Event, Attempt, Label, MlflowRun):
        session.execute(delete(table).where(table.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id))
    count_ended(session, State(state), -1)


def _compares(session: Session, sweep_id: str) -> bool:
    """Whether a sweep has a rule by which its jobs are stopped, and jobs that have not ended."""
    rule = session.scalar(select(Sweep.spec["stopping"]).where(Sweep.id == sweep_id))
    left = select(Job.id).where(Job.sweep_id == sweep_id, Job.state.not_in(TERMINAL)).limit(1)
    return rule is not None and session.scalar(left) is not None


PARTICIPLES = {Request.CANCEL: "cancelled", Request.PAUSE: "paused", Request.RESUME: "resumed"}


def _refusal(job_id: str, state: State, request: Request) -> str:
    if state in TERMINAL:
        return f"Job {job_id} has ended: {state}. It cannot be {PARTICIPLES[request]} any more."
    if state is State.PAUSING:
        return f"Job {job_id} is pausing: wait until it is paused, then resume it."
    return f"Job {job_id} is {state}: it cannot be {PARTICIPLES[request]} any more."
