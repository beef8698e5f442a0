"""Leadership: among the processes on one database, the holder of the lease schedules and exports to MLflow."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from service.components import ComponentStatus
from service.scheduling.scheduler import Scheduler
from service.store.database import is_unavailable
from service.store.lease import LEASE, FencedDatabase, LeaseLostError, Term, lease_age, read_lease, take_over
from service.store.stalled import end_stalled
from service.tracking import MlflowExporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.components import Component
    from service.scheduling.scheduler import Cluster
    from service.settings import Settings
    from service.store import Database, Transactions
    from service.store.lease import LeaseState

RENEWAL = 2.5  # seconds between renewals: two may fail
LOOK = 1.0  # seconds between a candidate's queries of the lease

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaderComponent:
    """A component that runs only in the leader; `find` returns it in that process, `other` is the status elsewhere."""

    find: Callable[[], Component | None]
    other: Callable[[], ComponentStatus]

    def status(self) -> ComponentStatus:
        """Status of the component; a process that stands by is ready while another one leads."""
        part = self.find()
        return self.other() if part is None else part.status()


class Leadership:
    """Campaigns for the lease in its own thread, and leads while it holds the lease.

    With `alone` no other process can be running, so an existing lease is taken immediately.
    """

    def __init__(self, database: Database, settings: Settings, cluster: Cluster, *, alone: bool = False) -> None:
        self._database, self._settings, self._cluster, self._alone = database, settings, cluster, alone
        # A renewal must not wait for a connection that a follower has while it waits for a lock.
        self._lease = database.beside()
        # With the name of its sessions, so that others find those of a holder whose lease has expired.
        self._name = f"{socket.gethostname()}:{os.getpid()}:{database.name}:{id(self):x}"
        self._term: Term | None = None
        self._scheduler: Scheduler | None = None
        self._exporter: MlflowExporter | None = None
        # When a process was last known to lead, and whether that is another one.
        self._led_at, self._another = time.monotonic(), False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadership")

    @property
    def scheduler(self) -> LeaderComponent:
        """The scheduler, if this process leads."""
        return LeaderComponent(lambda: self._scheduler, self._standing)

    @property
    def exporter(self) -> LeaderComponent:
        """The exporter to MLflow, if this process leads."""
        return LeaderComponent(lambda: self._exporter, self._standing)

    def _standing(self) -> ComponentStatus:
        """Status of a process that does not lead."""
        age = time.monotonic() - self._led_at
        if age > LEASE:
            return ComponentStatus(ready=False, detail=f"no process has led for {age:.0f} s; this one tries to")
        if self._another:
            return ComponentStatus(ready=True, detail="stands by: another process leads")
        return ComponentStatus(ready=True, detail="no process leads now; this one tries to")

    def start(self) -> None:
        """Start the campaign."""
        self._thread.start()

    def wake(self) -> None:
        """Start a pass of the scheduler, if this process leads; another leader makes one every second."""
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler.wake()

    def stop(self) -> None:
        """Step down and release the lease. Attempts continue, and the next leader adopts them."""
        self._stopping.set()
        if self._term is not None:
            self._term.over.set()
        self._thread.join()
        self._lease.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._term = self._campaign()
                if self._term is not None:
                    self._lead(self._term)
            except Exception:  # the campaign must continue after any error
                log.exception("the lease could not be taken or kept; trying again")
                self._stopping.wait(LOOK)

    def _campaign(self) -> Term | None:
        """Wait until the lease can be taken, and take it; returns None if this process stops."""
        seen, since = None, 0.0
        while not self._stopping.is_set():
            try:
                self._end_stalled()
                with self._lease.reading() as session:
                    state, age = read_lease(session), lease_age(session)
                if state != seen:
                    seen, since = state, time.monotonic()
                free = self._alone or state.holder in {None, self._name}
                # This process may have started, or ended its last term, just now. Or the database's clock was set back.
                expired = max(age, time.monotonic() - since) > LEASE
                self._another = not (free or expired)
                if self._another:
                    self._led_at = time.monotonic()
                if (free or expired) and (term := self._take(state)):
                    return term
            except SQLAlchemyError as error:
                if not is_unavailable(error):
                    raise
                # The time without a renewal continues to be counted.
                log.warning("the lease could not be read or taken; trying again: %s", error)
            self._stopping.wait(LOOK)
        return None

    def _take(self, seen: LeaseState) -> Term | None:
        begun = time.monotonic()
        with self._lease.writing(first=True) as session:
            token = take_over(session, seen, self._name)
        return None if token is None else Term(self._lease, token, begun)

    def _end_stalled(self) -> None:
        """End transactions of processes that are stopped: also of those that do not lead, since they lock rows."""
        try:
            with self._lease.reading() as session:
                ended = end_stalled(session)
        except SQLAlchemyError as error:  # the lease must be kept or taken nevertheless
            log.warning("transactions of stopped processes could not be looked for: %s", error)
            return
        if ended:
            log.warning("%d transactions of processes that are stopped or unreachable were ended", len(ended))

    def _lead(self, term: Term) -> None:
        log.info("this process is the leader, term %d", term.token)
        try:
            with self._leading(FencedDatabase(self._database, term)):
                self._renew(term)
        finally:
            self._led_at, self._another = time.monotonic(), False
            log.info("this process is no longer the leader")
            term.end()

    def _renew(self, term: Term) -> None:
        """Renew the lease until it is lost or released."""
        while not (self._stopping.is_set() or term.over.wait(RENEWAL)):
            try:
                self._end_stalled()
                term.renew()
            except LeaseLostError as error:
                log.warning("stepping down: %s", error)
                return
            except Exception:  # the term expires if this continues
                log.exception("the lease could not be renewed; trying again")

    @contextmanager
    def _leading(self, database: Transactions) -> Iterator[None]:
        """Scheduler and exporter of the leader, new for each term."""
        self._exporter = exporter = MlflowExporter(database, self._settings)
        self._scheduler = scheduler = Scheduler(database, self._settings, self._cluster)
        exporter.start()
        scheduler.start()
        try:
            yield
        finally:
            self._scheduler = self._exporter = None
            parts = [threading.Thread(target=part.stop) for part in (scheduler, exporter)]
            for part in parts:
                part.start()
            for part in parts:
                while part.is_alive():
                    self._end_stalled()  # the work that ends may wait for their locks
                    part.join(LOOK)
            self._cluster.leave()
