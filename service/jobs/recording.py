"""Writes the events of an attempt to the database: each event once, and only from the current attempt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from service.jobs.certificates.milestones import record_milestones, record_state
from service.jobs.certificates.replays import judge
from service.jobs.certificates.verification import check_milestones, conclude
from service.jobs.repository import (
    finish_attempt,
    get_attempt,
    move,
    note_attempt_waiting,
    record_event,
    record_kept,
    record_progress,
    record_restart,
    record_result,
)
from service.jobs.series.points import record_points
from service.jobs.states import LIVE, STOPPED_BY_SWEEP, State
from service.store.models import Attempt, Job
from service.store.rows import find
from workers.job.spec import CheckpointsSpec, JobSpec
from workers.record.events import Checkpointed, Ended, Evaluated, Event, Noted, Progress, Restarted, Started, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session


def record_events(session: Session, job_id: str, attempt: int, events: Sequence[tuple[int, Event]]) -> None:
    """Write the numbered events of an attempt.

    Events whose number was written before are skipped. Events of an attempt that is not the job's current one are
    ignored.
    """
    job = find(session, Job, job_id, lock=True)
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
    """How often a job with this resolved spec may be restarted. Specs of the first version lack the field."""
    return int(spec.get("max_restarts", JobSpec.model_fields["max_restarts"].default))


def checkpoints_kept(spec: Mapping[str, Any]) -> int:
    """How many checkpoints a job with this resolved spec keeps. Specs of the first version lack the field."""
    return int(spec.get("checkpoints", {}).get("keep", CheckpointsSpec.model_fields["keep"].default))


def _record(session: Session, job_id: str, attempt: int, event: Event) -> None:
    match event:
        case Started():
            move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
            note_attempt_waiting(session, job_id, attempt, None)
            data = {
                "step": event.step,
                "workers": event.workers,
                "fingerprint": dict(event.fingerprint),
                "changed": dict(event.changed),
            }
            record_event(session, job_id, attempt, "training_started", data=data)
        case Progress():
            record_points(session, job_id, attempt, event.series)
            if event.milestones and record_milestones(session, job_id, attempt, event.milestones):
                check_milestones(session, job_id)
            record_progress(session, job_id, attempt, epoch=event.epoch, step=event.step)
        case Checkpointed():
            recorded = record_result(session, job_id, attempt, params_sha256=event.params_sha256)
            if recorded and event.state_sha256 is not None:
                keep = checkpoints_kept(session.get_one(Job, job_id).spec)
                record_state(session, job_id, event.step, event.state_sha256, keep=keep)
        case Evaluated():
            # JSON has no NaN and no infinity.
            metrics = {name: value if math.isfinite(value) else None for name, value in event.metrics.items()}
            kept = {"step": event.step, "epoch": event.epoch, "metrics": metrics}
            record_kept(session, job_id, attempt, kept, dict(event.details))
        case Restarted():
            record_restart(session, job_id, attempt, reason=event.reason, message=event.message)
        case Waiting():
            note_attempt_waiting(session, job_id, attempt, event.reason)
        case Noted():
            record_event(session, job_id, attempt, event.kind, data=dict(event.data))
        case Ended():
            end_attempt(session, job_id, attempt, event)


def end_attempt(session: Session, job_id: str, attempt: int, end: Ended) -> None:
    """Write how an attempt ended, and move its job to the state that follows.

    A job whose attempt was lost returns to the queue, at most `max_restarts` times.
    """
    reason = f"{end.reason}: {end.message}" if end.message else end.reason
    job = find(session, Job, job_id, lock=True)
    if job is not None and job.state == State.CANCELLING and end.outcome not in {"succeeded", "failed"}:
        reason = _reason_of_sweep(job) or reason
    if not finish_attempt(session, job_id, attempt, outcome=end.outcome, reason=reason):
        return
    if job is None or job.state not in LIVE:
        return
    state, target = State(job.state), _after(State(job.state), end)
    if judge(session, job_id, end) and target is not State.CANCELLED:
        target = State.SUCCEEDED
    if end.outcome == "lost" and target is State.QUEUED:
        allowed = max_restarts(job.spec)
        if job.restarts >= allowed:
            target = State.FAILED
            reason = f"too_many_restarts: max_restarts allows {allowed}, and once more {reason}"
        else:
            record_restart(session, job_id, attempt, reason=end.reason, message=end.message)
    move(session, job_id, from_=state, to=target, reason=reason, attempt=attempt)
    if target is State.SUCCEEDED:
        conclude(session, job_id)


def _after(state: State, end: Ended) -> State:
    """The state that follows a live one when its attempt has ended."""
    match end.outcome:
        case "succeeded":
            return State.SUCCEEDED
        case "failed":
            return State.FAILED
        case _ if state is State.CANCELLING:
            return State.CANCELLED
        case _ if state is State.PAUSING:
            # A resumed job continues from its last checkpoint, however the attempt ended.
            return State.PAUSED
        case _:
            return State.QUEUED


def _reason_of_sweep(job: Job) -> str | None:
    """The reason that a sweep gave for cancelling the job. The workers only report a cancellation."""
    return job.reason if job.reason is not None and job.reason.startswith(STOPPED_BY_SWEEP) else None
