"""The lease: of all the processes on one database, one at a time schedules, follows attempts and tells MLflow.

Who holds the lease renews it; who wants it watches the renewals. Each takeover raises the lease's token, and every
write of a holder checks its token in its own transaction. So a process that was stopped for a while and goes on, not
knowing that another has taken over, writes nothing any more.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Update, select, update

from service.store.models import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from service.store.database import Transactions

SCHEDULER = "scheduler"
LEASE = 10.0  # seconds without a renewal after which another process takes over


class LeaseLostError(Exception):
    """This process does not hold the lease any more; nothing was written."""


class LeaseState(NamedTuple):
    """Who holds the lease, None when nobody does; its token; and how often the holder has renewed it."""

    holder: str | None
    token: int
    renewals: int


def read_lease(session: Session) -> LeaseState:
    """The lease as it is."""
    columns = Lease.holder, Lease.token, Lease.renewals
    return LeaseState(*session.execute(select(*columns).where(Lease.name == SCHEDULER)).one())


def take_over(session: Session, seen: LeaseState, holder: str) -> int | None:
    """Take the lease if it is still as it was `seen`; gives its new token, None when another was quicker."""
    # A holder's writes lock the row FOR KEY SHARE: this waits until those under way are committed.
    session.execute(select(Lease.name).where(Lease.name == SCHEDULER).with_for_update())
    if read_lease(session) != seen:
        return None
    session.execute(_changing(seen.token).values(holder=holder, token=seen.token + 1, renewals=0))
    return seen.token + 1


def renew(session: Session, token: int) -> bool:
    """Renew the lease; False when it has another token."""
    result = session.execute(_changing(token).values(renewals=Lease.renewals + 1))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def give_back(session: Session, token: int) -> None:
    """Let anybody take the lease at once."""
    session.execute(_changing(token).values(holder=None))


def check_token(session: Session, token: int) -> None:
    """Keep the lease with this token to the end of the transaction; LeaseLostError when it has another."""
    # The weakest lock: it stops a takeover, but neither renewals nor the holder's other writes.
    query = select(Lease.token).where(Lease.name == SCHEDULER).with_for_update(read=True, key_share=True)
    found = session.scalar(query)
    if found != token:
        raise LeaseLostError(f"the lease has token {found}, not {token}: another process has taken over")


def _changing(token: int) -> Update:
    return update(Lease).where(Lease.name == SCHEDULER, Lease.token == token)


class Term:
    """The time for which this process holds the lease; `over` is set when it is lost, or shall be given back.

    No two clocks are compared. The holder counts `LEASE` seconds from before its last renewal, a candidate the same
    from after it has seen that renewal: the holder stops first, also where it does not reach the database.
    """

    def __init__(self, database: Transactions, token: int, begun: float) -> None:
        self.token, self.over = token, Event()
        self._database, self._until, self._lost = database, begun + LEASE, False

    def check(self) -> None:
        """Raise LeaseLostError when the lease is lost, and see that it stays lost."""
        if time.monotonic() > self._until:
            self.lose()
        if self._lost:
            raise LeaseLostError(f"the lease under token {self.token} was not renewed in time, or is another's")

    def lose(self) -> None:
        """Take note that the lease is lost."""
        self._lost = True
        self.over.set()

    def renew(self) -> None:
        """Go on for `LEASE` seconds from now; LeaseLostError where another process has taken over."""
        begun = time.monotonic()
        self.check()
        with self._database.writing() as session:
            renewed = renew(session, self.token)
        if not renewed:
            self.lose()
        self.check()
        self._until = begun + LEASE

    def end(self) -> None:
        """Give the lease back; nothing is written under it from here on."""
        self.lose()
        with self._database.writing() as session:
            give_back(session, self.token)


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
        """Session whose changes are committed together while the lease is held, or not at all."""
        self._term.check()
        with self._database.writing() as session:
            try:
                check_token(session, self._term.token)
            except LeaseLostError:
                self._term.lose()
                raise
            yield session
