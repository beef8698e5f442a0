"""What users ask of a job that is there: to cancel, pause, resume or delete it, and to run it on something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from service.jobs.events import add_event
from service.jobs.repository import changed, count_ended, lock_job, move
from service.jobs.states import REQUESTS, TERMINAL, Request, State
from service.store.models import Attempt, Event, Job, Label, Metric, MlflowRun

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from workers.spec import ResourcesSpec


class NotPossibleError(Exception):
    """The job is in a state in which what was asked can not be done; the text is a sentence that says why."""


def make_request(session: Session, job_id: str, request: Request) -> bool:
    """Do what a user asks: at once where no worker has the job, else by moving it to a state that its workers are told.

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
    return move(session, job_id, from_=state, to=target, reason=f"{request}_requested")


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
    """Remove an ended job and all that is known of it.

    Raises NotPossibleError for a job that has not ended, LookupError for an unknown one.
    """
    # Where writers do not exclude each other, the lock keeps new rows from referring to the job.
    state = session.scalar(select(Job.state).where(Job.id == job_id).with_for_update())
    if state is None:
        raise LookupError(job_id)
    if state not in TERMINAL:
        raise NotPossibleError(f"Job {job_id} is {state}: cancel it and wait until it has ended, then delete it.")
    for table in (Metric, Event, Attempt, Label, MlflowRun):
        session.execute(delete(table).where(table.job_id == job_id))
    session.execute(delete(Job).where(Job.id == job_id))
    count_ended(session, State(state), -1)


PARTICIPLES = {Request.CANCEL: "cancelled", Request.PAUSE: "paused", Request.RESUME: "resumed"}


def _refusal(job_id: str, state: State, request: Request) -> str:
    if state in TERMINAL:
        return f"Job {job_id} has ended: {state}. It cannot be {PARTICIPLES[request]} any more."
    if state is State.PAUSING:
        return f"Job {job_id} is pausing: wait until it is paused, then resume it."
    return f"Job {job_id} is {state}: it cannot be {PARTICIPLES[request]} any more."
