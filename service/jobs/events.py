"""The history of jobs: one row per event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from service.jobs.states import State
from service.store.models import Event, Incident, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

# Kinds of events that are counted permanently, and by how much each of them counts.
INCIDENTS: dict[str, Callable[[dict[str, Any]], int]] = {
    "restarted": lambda _: 1,
    "determinism_violation": lambda data: int(data["differing_points"]),
    "messages_refused": lambda data: sum(count for cause, count in data.items() if cause != "worker"),
}


def add_event(
    session: Session,
    job_id: str,
    kind: str,
    *,
    attempt: int | None = None,
    moved: tuple[State | None, State | None] = (None, None),
    reason: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event to a job's history.

    `moved` has the states from and to which the job moved. Ids are assigned when a row is written, not when it is
    committed. The transaction locks the job's row first and keeps the lock, so the events of one job are committed in
    the order of their ids: a reader that has seen one event has seen all before it. To avoid a deadlock, the
    transaction must not have locked rows of the job's attempts before.
    """
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update(key_share=True))
    from_state, to_state = moved
    session.add(
        Event(
            job_id=job_id,
            kind=kind,
            attempt=attempt,
            from_state=from_state,
            to_state=to_state,
            reason=reason,
            data=data,
        )
    )
    if kind in INCIDENTS:
        session.add(Incident(kind=kind, count=INCIDENTS[kind](data or {})))
    session.flush()


def add_moves(
    session: Session, job_ids: Iterable[str], moved: tuple[State | None, State], reason: str | None = None
) -> None:
    """Add the same move to the history of several jobs, whose rows the transaction has locked or created."""
    from_state, to_state = moved
    common = {"kind": "state", "from_state": from_state, "to_state": to_state, "reason": reason}
    session.execute(insert(Event), [{"job_id": job_id, **common} for job_id in job_ids])


def count_incidents(session: Session) -> dict[str, int]:
    """Number of incidents since the database was created, by the kind of event."""
    query = select(Incident.kind, func.sum(Incident.count)).group_by(Incident.kind)
    return {kind: int(count) for kind, count in session.execute(query)}


def has_event(session: Session, job_id: str, event_id: int) -> bool:
    """Whether an event exists and is one of the job."""
    return session.scalar(select(Event.id).where(Event.id == event_id, Event.job_id == job_id)) is not None


def list_events(
    session: Session, job_id: str, *, limit: int, starting_after: int | None = None
) -> tuple[Sequence[Event], bool]:
    """Events of a job, oldest first, after the event `starting_after`; and whether there are more."""
    query = select(Event).where(Event.job_id == job_id)
    if starting_after is not None:
        query = query.where(Event.id > starting_after)
    events = session.scalars(query.order_by(Event.id).limit(limit + 1)).all()
    return events[:limit], len(events) > limit


def queued_at(session: Session, job_id: str) -> datetime:
    """When a job last entered the queue."""
    query = select(Event.time).where(Event.job_id == job_id, Event.to_state == State.QUEUED)
    return session.scalars(query.order_by(Event.id.desc()).limit(1)).one()
