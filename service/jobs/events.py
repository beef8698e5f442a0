"""The history of jobs: a row for each thing that happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from service.store.models import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from service.jobs.states import State


def add_event(
    session: Session,
    job_id: str,
    kind: str,
    *,
    attempt: int | None = None,
    from_state: State | None = None,
    to_state: State | None = None,
    reason: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event to a job's history."""
    moved = {"from_state": from_state, "to_state": to_state}
    session.add(Event(job_id=job_id, kind=kind, attempt=attempt, reason=reason, data=data, **moved))
    session.flush()


def list_events(
    session: Session, job_id: str, *, limit: int, starting_after: int | None = None
) -> tuple[Sequence[Event], bool]:
    """What happened to a job, oldest first, after the event `starting_after`; and whether there is more."""
    query = select(Event).where(Event.job_id == job_id)
    if starting_after is not None:
        query = query.where(Event.id > starting_after)
    events = session.scalars(query.order_by(Event.id).limit(limit + 1)).all()
    return events[:limit], len(events) > limit
