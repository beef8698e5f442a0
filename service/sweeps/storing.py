"""Stores the jobs of a new sweep: their rows are made before the transaction, which then has a few statements."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, insert

from service.jobs.events import add_moves
from service.jobs.repository import job_columns, new_id
from service.jobs.states import State
from service.store.models import Job, Label
from service.store.types import WrittenJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from service.jobs.repository import NewJob

JSON_COLUMNS = {column.key for column in Job.__table__.columns if isinstance(column.type, JSON)}


@dataclass(frozen=True)
class MemberRow:
    """The columns of a member, JSON as text; and its labels."""

    columns: dict[str, Any]
    labels: dict[str, str]


def member_rows(members: Sequence[NewJob]) -> list[MemberRow]:
    """Rows of new members, in their order."""
    texts: dict[int, WrittenJson] = {}  # by identity: members share what is equal in all of them
    rows = []
    for member in members:
        columns = job_columns(member)
        for name in JSON_COLUMNS & columns.keys():
            value = columns[name]
            if id(value) not in texts:
                texts[id(value)] = WrittenJson(json.dumps(value))
            columns[name] = texts[id(value)]
        rows.append(MemberRow(columns, member.get("labels", {})))
    return rows


def store_members(session: Session, sweep_id: str, members: Sequence[MemberRow]) -> None:
    """Add queued jobs to a sweep that the same transaction has created."""
    jobs, labels = [], []
    for member in members:
        job_id, created_at = new_id("job")
        jobs.append({**member.columns, "id": job_id, "sweep_id": sweep_id, "created_at": created_at})
        labels += [{"job_id": job_id, "key": key, "value": value} for key, value in member.labels.items()]
    session.execute(insert(Job), jobs)
    if labels:
        session.execute(insert(Label), labels)
    add_moves(session, [job["id"] for job in jobs], (None, State.QUEUED))
