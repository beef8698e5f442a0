"""Rows found by their id, and rows added once per idempotency key."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service.errors import InvalidError, NotFoundError
from service.store.models import Job, Sweep
from workers.job.checks.problems import FieldProblem

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Row = TypeVar("Row", Job, Sweep)


class IdempotencyMismatchError(InvalidError):
    """An idempotency key was sent again with another body."""


def find(session: Session, table: type[Row], row_id: str, *, lock: bool = False) -> Row | None:
    """The row with this id, as it is in the database now, or None.

    With `lock`, no other writer changes the row before the transaction ends. A transaction that writes to a job and to
    its attempts locks the job first, which avoids deadlocks.
    """
    return session.get(table, row_id, populate_existing=True, with_for_update={"key_share": True} if lock else None)


def find_or_404(session: Session, table: type[Row], row_id: str, *, lock: bool = False) -> Row:
    """What `find` returns. Raises NotFoundError if there is no such row."""
    row = find(session, table, row_id, lock=lock)
    if row is None:
        kind = table.__name__.lower()
        raise NotFoundError(f"There is no {kind} {row_id!r}; GET /v1/{kind}s lists the {kind}s.")
    return row


def add_once(session: Session, row: Row) -> tuple[Row, bool]:
    """Add a row unless one with its idempotency key exists; returns the row and whether it is new.

    Raises IdempotencyMismatchError when the existing row was made from another body.
    """
    if first := _find_replay(session, row):
        return first, False
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # On PostgreSQL writers run concurrently: another request with this key can have been first.
        if not (first := _find_replay(session, row)):
            raise
        return first, False
    return row, True


def _find_replay(session: Session, row: Row) -> Row | None:
    table, key = type(row), row.idempotency_key
    if key is None:
        return None
    first = session.scalar(select(table).where(table.idempotency_key == key))
    if first is not None and first.body_sha256 != row.body_sha256:
        message = f"was used before with another body; use a new key for another {table.__name__.lower()}"
        raise IdempotencyMismatchError(FieldProblem("Idempotency-Key", message))
    return first
