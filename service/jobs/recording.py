"""What an attempt tells, as rows: each event once, and nothing from an attempt that is no longer the current one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from service.jobs.repository import (
    finish_attempt,
    get_attempt,
    lock_job,
    move,
    record_event,
    record_progress,
    record_restart,
    record_result,
)
from service.jobs.series.points import record_points
from service.jobs.states import LIVE, STOPPED_BY_SWEEP, State
from service.store.models import Attempt
from workers.job.spec import JobSpec
from workers.record.events import Checkpointed, Ended, Event, Noted, Progress, Restarted, Started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from service.store.models import Job


def record_events(session: Session, job_id: str, attempt: int, events: Sequence[tuple[int, Event]]) -> None:
    """Write numbered events of an attempt; those that were written before, by their number, change nothing.

    Nor does anything that comes from an attempt which is not the job's current one.
    """
    job = lock_job(session, job_id)
    if job is None or job.attempt != attempt:
        return
    written = get_attempt(session, job_id, attempt).last_event
    for number, event in events:
        if number > written:
            _record(session, job_id, attempt, event)
            written = number
    this = Attempt.job_id == job_id, Attempt.number == attempt
    session.execute(update(Attempt).where(*this).values(last_event=written))


def max_restarts(spec: Mapping[str, Any]) -> int:
    """How often a job with this resolved spec may be restarted; specs of the first version do not say."""
    return int(spec.get("max_restarts", JobSpec.model_fields["max_restarts"].default))


def _record(session: Session, job_id: str, attempt: int, event: Event) -> None:
    match event:
        case Started():
            move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
            data = {
                "step": event.step,
                "workers": event.workers,
                "fingerprint": dict(event.fingerprint),
                "changed": dict(event.changed),
            }
            record_event(session, job_id, attempt, "training_started", data=data)
        case Progress():
            record_points(session, job_id, attempt, event.series)
            record_progress(session, job_id, attempt, epoch=event.epoch, step=event.step)
        case Checkpointed():
            record_result(session, job_id, attempt, params_sha256=event.params_sha256)
        case Restarted():
            record_restart(session, job_id, attempt, reason=event.reason, message=event.message)
        case Noted():
            record_event(session, job_id, attempt, event.kind, data=dict(event.data))
        case Ended():
            end_attempt(session, job_id, attempt, event)


def end_attempt(session: Session, job_id: str, attempt: int, end: Ended) -> None:
    """Write how an attempt ended and what that makes of its job.

    A job whose attempt was lost goes back to the queue, `max_restarts` times.
    """
    reason = f"{end.reason}: {end.message}" if end.message else end.reason
    job = lock_job(session, job_id)
    if job is not None and job.state == State.CANCELLING and end.outcome not in {"succeeded", "failed"}:
        reason = _who_cancelled(job) or reason
    if not finish_attempt(session, job_id, attempt, outcome=end.outcome, reason=reason):
        return
    if job is None or job.state not in LIVE:
        return
    state = State(job.state)
    match end.outcome:
        case "succeeded":
            target = State.SUCCEEDED
        case "failed":
            target = State.FAILED
        case _ if state is State.CANCELLING:
            target = State.CANCELLED
        case _ if state is State.PAUSING:
            # However the attempt ended, resuming goes on from the last checkpoint.
            target = State.PAUSED
        case _:
            target = State.QUEUED
    if end.outcome == "lost" and target is State.QUEUED:
        allowed = max_restarts(job.spec)
        if job.restarts >= allowed:
            target = State.FAILED
            reason = f"too_many_restarts: max_restarts allows {allowed}, and once more {reason}"
        else:
            record_restart(session, job_id, attempt, reason=end.reason, message=end.message)
    move(session, job_id, from_=state, to=target, reason=reason, attempt=attempt)


def _who_cancelled(job: Job) -> str | None:
    """The reason of a job that is being cancelled, where it says more than its workers know."""
    return job.reason if job.reason is not None and job.reason.startswith(STOPPED_BY_SWEEP) else None
