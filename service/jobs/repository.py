"""Database operations on jobs: create, find, move from state to state.

Every function works in the caller's transaction. Functions that record something about an attempt return False, and
change nothing, where it is no longer the job's current attempt.
"""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

from sqlalchemy import func, literal, select, update
from sqlalchemy.orm import aliased, joinedload, selectinload

from service.errors import QueueFullError
from service.jobs.events import add_event, add_moves
from service.jobs.labels import parse_filter
from service.jobs.states import LIVE, MOVES, TERMINAL, State
from service.store.models import Attempt, EndedJobs, Job, Label, now
from service.store.rows import add_once
from service.store.types import UtcDateTime
from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Update
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from core import Task
    from service.jobs.schemas import JobFilter


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class _Moments:
    """Strictly increasing times of creation within one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = datetime.min.replace(tzinfo=UTC)

    def next(self) -> datetime:
        with self._lock:
            self._last = max(self._last + MICROSECOND, now())
            return self._last


_moments = _Moments()


def _first_id(time: datetime, kind: str = "job") -> str:
    """Prefix of the ids created at `time`: ids are in the order of creation."""
    microseconds = (time - EPOCH) // MICROSECOND
    return f"{kind}_{min(max(microseconds, 0), 16**14 - 1):014x}"


def new_id(kind: str) -> tuple[str, datetime]:
    """An id that begins with `kind`, and its time of creation; ids of a kind are in the order of creation."""
    created_at = _moments.next()
    return _first_id(created_at, kind) + secrets.token_hex(6), created_at


class NewJob(TypedDict):
    """Columns of a job to create: its resolved spec, a snapshot of its dataset, and the other fields of the request.

    A member of a sweep has `overrides`: the fields in which it differs from the other members.
    """

    spec: dict[str, Any]
    dataset: dict[str, Any]
    total_steps: int
    body_sha256: str
    task: Task
    validation_metrics: list[str]
    labels: NotRequired[dict[str, str]]
    priority: NotRequired[int]
    overrides: NotRequired[dict[str, Any]]


def job_columns(new: NewJob) -> dict[str, Any]:
    """The columns of a new job, except its id, labels, sweep and time of creation."""
    spec = new["spec"]
    needs = ResourcesSpec.model_validate(spec["resources"]).total
    return {
        **{name: value for name, value in new.items() if name != "labels"},
        "name": spec["name"],
        "experiment": spec["experiment"],
        "state": State.QUEUED,
        "cpus": needs["CPU"],
        "gpus": needs["GPU"],
    }


def create_job(
    session: Session, *, idempotency_key: str | None = None, sweep_id: str | None = None, **new: Unpack[NewJob]
) -> tuple[Job, bool]:
    """Add a queued job; returns the job and whether it is new.

    The same `idempotency_key` with the same body returns the first job again. Raises IdempotencyMismatchError where the
    body differs.
    """
    job_id, created_at = new_id("job")
    job, created = add_once(
        session,
        Job(
            **job_columns(new),
            id=job_id,
            labels=[Label(key=key, value=value) for key, value in sorted(new.get("labels", {}).items())],
            idempotency_key=idempotency_key,
            sweep_id=sweep_id,
            created_at=created_at,
        ),
    )
    if created:
        add_event(session, job.id, "state", moved=(None, State.QUEUED))
    return job, created


def list_jobs(session: Session, wanted: JobFilter) -> tuple[Sequence[Job], bool]:
    """A page of jobs, newest first, and whether there are more."""
    query = select(Job).options(selectinload(Job.attempts), joinedload(Job.mlflow_run), selectinload(Job.labels))
    query = query.options(joinedload(Job.verification))
    job_id: InstrumentedAttribute[str] = Job.id
    for key, value in map(parse_filter, wanted.label):
        label = aliased(Label)
        query = query.join(label, (label.job_id == job_id) & (label.key == key) & (label.value == value))
        # The requested order is then that of the labels' index: no sorting, and no other job is read.
        job_id = label.job_id
    if wanted.starting_after is not None:
        query = query.where(job_id < wanted.starting_after)
    if wanted.state is not None:
        query = query.where(Job.state == wanted.state)
    if wanted.experiment is not None:
        query = query.where(Job.experiment == wanted.experiment)
    if wanted.sweep is not None:
        query = query.where(Job.sweep_id == wanted.sweep)
    if wanted.created_after is not None:
        query = query.where(job_id >= _first_id(wanted.created_after))
    if wanted.created_before is not None:
        query = query.where(job_id < _first_id(wanted.created_before))
    jobs = session.scalars(query.order_by(job_id.desc()).limit(wanted.limit + 1)).all()
    return jobs[: wanted.limit], len(jobs) > wanted.limit


def check_room(session: Session, most: int, more: int = 0) -> None:
    """Raise QueueFullError if more than `most` jobs are queued, together with `more` that will be."""
    if more <= most:
        over = select(Job.id).where(Job.state == State.QUEUED).offset(most - more).limit(1)
        if session.scalar(over) is None:
            return
    would_be = f"with {more:,} more there would be too many" if more else "there are as many"
    raise QueueFullError(
        f"At most {most:,} jobs may be queued (max_queued_jobs), and {would_be}. Nothing was created. Try again when "
        "some have started; with the same Idempotency-Key, nothing is created twice."
    )


def jobs_in(session: Session, states: Iterable[State]) -> Sequence[Job]:
    """Jobs in any of these states, by descending priority, then the oldest first."""
    return session.scalars(select(Job).where(Job.state.in_(list(states))).order_by(Job.priority.desc(), Job.id)).all()


def move(
    session: Session,
    job_id: str,
    *,
    from_: State,
    to: State,
    reason: str | None = None,
    attempt: int | None = None,
) -> bool:
    """Move a job from one state to another and record the event.

    Returns False when the job is not in `from_`, or `attempt` is given and is not its current one. Raises ValueError
    for a move that is not in the table of states.
    """
    statement = update(Job).where(Job.id == job_id, Job.state == from_).values(_changes(from_, to, reason))
    if attempt is not None:
        statement = statement.where(Job.attempt == attempt)
    if not changed(session, statement):
        return False
    if to in TERMINAL:
        count_ended(session, to, 1)
    add_event(session, job_id, "state", attempt=attempt, moved=(from_, to), reason=reason)
    return True


def move_all(session: Session, job_ids: Collection[str], *, from_: State, to: State, reason: str) -> None:
    """Move jobs that are in `from_`, and whose rows the transaction has locked, and record an event of each.

    Their number does not change the number of statements. Raises ValueError for a move that is not in the table.
    """
    statement = update(Job).where(Job.id.in_(job_ids)).values(_changes(from_, to, reason))
    session.execute(statement, execution_options={"synchronize_session": False})
    if to in TERMINAL:
        count_ended(session, to, len(job_ids))
    add_moves(session, job_ids, (from_, to), reason)


def _changes(from_: State, to: State, reason: str | None) -> dict[str, Any]:
    """What a move changes in the job's row. Raises ValueError for a move that is not in the table of states."""
    if to not in MOVES[from_]:
        allowed = ", ".join(sorted(MOVES[from_])) or "nothing: it is final"
        raise ValueError(f"a job cannot move from {from_} to {to}; from {from_} it can move to {allowed}")
    ended = {"finished_at": now()} if to in TERMINAL else {}
    return {"state": to, "reason": reason, **ended}


def start_attempt(session: Session, job_id: str, supervisor: str) -> int:
    """Create the job's next attempt and return its number; writes of the previous attempt then have no effect.

    `supervisor` is the name of the actor that will run it.
    """
    started = now()
    statement = (
        update(Job)
        .where(Job.id == job_id)
        .values(attempt=Job.attempt + 1, started_at=func.coalesce(Job.started_at, literal(started, UtcDateTime)))
        .returning(Job.attempt)
    )
    number = session.scalar(statement, execution_options={"synchronize_session": False})
    if number is None:
        raise LookupError(job_id)
    session.add(Attempt(job_id=job_id, number=number, supervisor=supervisor, started_at=started))
    add_event(session, job_id, "attempt_started", attempt=number)
    return number


def get_attempt(session: Session, job_id: str, number: int) -> Attempt:
    """The attempt. Raises NoResultFound."""
    return session.get_one(Attempt, (job_id, number), populate_existing=True)


def finish_attempt(session: Session, job_id: str, attempt: int, *, outcome: str, reason: str | None = None) -> bool:
    """Record how an attempt ended; returns False if it is not the job's current one, or has already ended."""
    current = select(Job.attempt).where(Job.id == job_id).scalar_subquery()
    ended = changed(
        session,
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.number == attempt, Attempt.number == current)
        .where(Attempt.finished_at.is_(None))
        .values(outcome=outcome, reason=reason, finished_at=now()),
    )
    if ended:
        add_event(session, job_id, "attempt_finished", attempt=attempt, reason=reason, data={"outcome": outcome})
    return ended


def record_event(
    session: Session,
    job_id: str,
    attempt: int,
    kind: str,
    *,
    reason: str | None = None,
    data: dict[str, Any] | None = None,
) -> bool:
    """Record an event of an attempt."""
    if not changed(session, update(Job).where(*held(job_id, attempt)).values(attempt=attempt)):
        return False
    add_event(session, job_id, kind, attempt=attempt, reason=reason, data=data)
    return True


def record_restart(session: Session, job_id: str, attempt: int, *, reason: str, message: str) -> bool:
    """Record and count a restart from the last checkpoint; `reason` is a word, `message` a sentence."""
    if not changed(session, update(Job).where(*held(job_id, attempt)).values(restarts=Job.restarts + 1)):
        return False
    return record_event(session, job_id, attempt, "restarted", reason=reason, data={"message": message})


def record_progress(session: Session, job_id: str, attempt: int, *, epoch: int, step: int) -> bool:
    """Record the completed epochs and global optimiser steps.

    Steps are computed again after a restart; progress below the recorded one changes nothing.
    """
    further = Job.epoch <= epoch, Job.step <= step
    return changed(session, update(Job).where(*held(job_id, attempt), *further).values(epoch=epoch, step=step))


def record_result(session: Session, job_id: str, attempt: int, *, params_sha256: str) -> bool:
    """Record the digest of the parameters (SHA-256, hex), at a checkpoint or at the end."""
    return changed(session, update(Job).where(*held(job_id, attempt)).values(params_sha256=params_sha256))


def record_kept(session: Session, job_id: str, attempt: int, kept: dict[str, Any], evaluation: dict[str, Any]) -> bool:
    """Record the parameters that are kept, `step`, `epoch` and `metrics`, and the details of their evaluation."""
    return changed(session, update(Job).where(*held(job_id, attempt)).values(kept=kept, evaluation=evaluation))


def held(job_id: str, attempt: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions for a write of `attempt` to the job: it is the current attempt and has not ended."""
    return Job.id == job_id, Job.attempt == attempt, Job.state.in_(LIVE)


def changed(session: Session, statement: Update) -> bool:
    """Run a conditional update of one row; returns whether the row was found."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return bool(result.rowcount)  # type: ignore[attr-defined]


def note_waiting(session: Session, job_id: str, reason: str) -> bool:
    """Record what a queued job waits for."""
    return changed(session, update(Job).where(Job.id == job_id, Job.state == State.QUEUED).values(reason=reason))


def note_attempt_waiting(session: Session, job_id: str, attempt: int, reason: str | None) -> bool:
    """Record what the workers of an attempt wait for, None if for nothing more."""
    training = Job.state.in_([State.STARTING, State.RUNNING])  # the others have the reason of the user's action
    return changed(session, update(Job).where(*held(job_id, attempt), training).values(reason=reason))


def count_by_state(session: Session) -> dict[State, int]:
    """Number of jobs in each state."""
    others = [state for state in State if state not in TERMINAL]
    counted = select(Job.state, func.count()).where(Job.state.in_(others)).group_by(Job.state)
    rows = [*session.execute(counted), *session.execute(select(EndedJobs.state, EndedJobs.count))]
    return dict.fromkeys(State, 0) | {State(state): count for state, count in rows}


def count_ended(session: Session, state: State, more: int) -> None:
    """Add to the number of jobs that ended in `state`; their rows are locked before."""
    changed(session, update(EndedJobs).where(EndedJobs.state == state).values(count=EndedJobs.count + more))


def progress_of(session: Session, job_id: str) -> tuple[int, datetime]:
    """Number of recorded steps of a job, and its time of creation."""
    step, created_at = session.execute(select(Job.step, Job.created_at).where(Job.id == job_id)).one()
    return step, created_at
