"""The lease: among the processes on one database, one at a time schedules, follows attempts and exports to MLflow.

The holder renews the lease, and candidates watch the renewals. Each takeover increments the lease's token, and every
write of a holder checks its token in the same transaction. So a process that was stopped for a while, and continues
without knowing that another has taken over, cannot write.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import ColumnElement, Update, func, select, text, update

from service.store.models import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from service.store.database import Database, Transactions

SCHEDULER = "scheduler"
LEASE = 10.0  # seconds without a renewal after which another process takes over
# A candidate neither waits long for the holder's transactions, nor makes the holder wait if it is stopped itself.
CANDIDATE = text(
    "SELECT set_config('lock_timeout', '1s', true), set_config('idle_in_transaction_session_timeout', '2s', true)"
)


class LeaseLostError(Exception):
    """This process no longer holds the lease; nothing was written."""


class LeaseState(NamedTuple):
    """Holder of the lease, or None; its token; and the number of renewals by the holder."""

    holder: str | None
    token: int
    renewals: int


def read_lease(session: Session) -> LeaseState:
    """The current lease."""
    columns = Lease.holder, Lease.token, Lease.renewals
    return LeaseState(*session.execute(select(*columns).where(Lease.name == SCHEDULER)).one())


def lease_age(session: Session) -> float:
    """Seconds since the last renewal or takeover, on the database's clock."""
    return float(
        session.execute(select(_clock(session) - Lease.renewed_at).where(Lease.name == SCHEDULER)).scalar_one()
    )


def _clock(session: Session) -> ColumnElement[float]:
    if session.get_bind().dialect.name == "postgresql":
        return func.date_part("epoch", func.clock_timestamp())
    return (func.julianday("now") - 2440587.5) * 86400.0  # the Julian day of 1970


def take_over(session: Session, seen: LeaseState, holder: str) -> int | None:
    """Take the lease if it is still as `seen`; returns its new token, or None if it has changed.

    Raises OperationalError while a transaction of the holder is open; `end_stalled` ends one of a stopped process.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(CANDIDATE)
    # A holder's writes lock the row FOR KEY SHARE: this waits until running ones are committed.
    session.execute(select(Lease.name).where(Lease.name == SCHEDULER).with_for_update())
    if read_lease(session) != seen:
        return None
    values = {"holder": holder, "token": seen.token + 1, "renewals": 0, "renewed_at": _clock(session)}
    session.execute(_changing(seen.token).values(values))
    return seen.token + 1


def renew(session: Session, token: int) -> bool:
    """Renew the lease; returns False if it has another token."""
    values = {"renewals": Lease.renewals + 1, "renewed_at": _clock(session)}
    result = session.execute(_changing(token).values(values))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def release(session: Session, token: int) -> None:
    """Release the lease, so that another process can take it immediately."""
    session.execute(_changing(token).values(holder=None))


def check_token(session: Session, token: int) -> None:
    """Hold the lease to the end of the transaction. Raises LeaseLostError if it has another token."""
    # The weakest lock: it blocks a takeover, but neither renewals nor the holder's other writes.
    query = select(Lease.token).where(Lease.name == SCHEDULER).with_for_update(read=True, key_share=True)
    found = session.scalar(query)
    if found != token:
        raise LeaseLostError(f"the lease has token {found}, not {token}: another process has taken over")


def _changing(token: int) -> Update:
    return update(Lease).where(Lease.name == SCHEDULER, Lease.token == token)


class Term:
    """The time for which this process holds the lease; `over` is set when it is lost or should be released.

    Clocks of different machines are not compared. The holder counts `LEASE` seconds from before its last renewal, the
    database counts them from that renewal, and a candidate from after it has seen it: the holder stops first, even
    without the database.
    """

    def __init__(self, database: Database, token: int, begun: float) -> None:
        self.token, self.over = token, Event()
        self._database, self._until, self._lost = database, begun + LEASE, False

    def check(self) -> None:
        """Raise LeaseLostError if the lease is lost or has expired."""
        if time.monotonic() > self._until:
            self.lose()
        if self._lost:
            raise LeaseLostError(f"the lease under token {self.token} was not renewed in time, or was taken over")

    def lose(self) -> None:
        """Mark the lease as lost."""
        self._lost = True
        self.over.set()

    def renew(self) -> None:
        """Renew the lease for `LEASE` seconds. Raises LeaseLostError if another process has taken over."""
        begun = time.monotonic()
        self.check()
        with self._database.writing(first=True) as session:
            renewed = renew(session, self.token)
        if not renewed:
            self.lose()
        self.check()
        self._until = begun + LEASE

    def end(self) -> None:
        """Release the lease; nothing more is written under it."""
        self.lose()
        with self._database.writing(first=True) as session:
            release(session, self.token)


class FencedDatabase:
    """The database for the holder of the lease: every transaction raises LeaseLostError once its term is over."""

    def __init__(self, database: Transactions, term: Term) -> None:
        self._database, self._term = database, term

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Session on a snapshot."""
        self._term.check()
        with self._database.reading() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Session whose changes are committed atomically, and only while the lease is held."""
        self._term.check()
        with self._database.writing() as session:
            try:
                check_token(session, self._term.token)
            except LeaseLostError:
                self._term.lose()
                raise
            yield session
