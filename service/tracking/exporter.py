"""Exports jobs and sweeps to MLflow, with the database as an outbox: in order, with retries until accepted.

Training never waits for MLflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sqlalchemy.exc import SQLAlchemyError

from service.components import ComponentStatus
from service.store.lease import LeaseLostError
from service.telemetry.instruments import UNEXPORTED_POINTS, UNEXPORTED_SECONDS
from service.tracking.backlog import measure_backlog, orphaned_runs, pending_jobs, pending_sweeps, pending_unbegun
from service.tracking.job_export import JobExport
from service.tracking.mending import Mending
from service.tracking.mlflow.api import MlflowApi, RejectedError, UnavailableError
from service.tracking.orphans import OrphanExport
from service.tracking.sweeps.export import SweepExport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.settings import Settings
    from service.store import Transactions

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
UNBEGUN_PER_STEP = 20  # so that the points of running jobs do not wait for a long queue
FIRST_REPEAT_SECONDS, LONGEST_REPEAT_SECONDS = 60.0, 3600.0  # of an export that MLflow rejected
ANSWER_SECONDS = 2.0  # to wait for the last answer when the export stops


class Export(Protocol):
    """The export of one kind of item."""

    def export(self, item_id: str, /) -> bool:
        """Send new data. Returns True if there is more than fits into one batch."""

    def record_rejection(self, item_id: str, error: RejectedError, /) -> None:
        """Record that MLflow rejected the item as a whole."""


class SetAside(NamedTuple):
    """When an item that MLflow rejected is tried again, on the monotonic clock, and the wait after that."""

    due: float
    wait: float


class Exports(NamedTuple):
    """The exports of all kinds of items."""

    jobs: JobExport
    sweeps: SweepExport
    orphans: OrphanExport
    mending: Mending


def exports(database: Transactions, settings: Settings, api: MlflowApi) -> Exports:
    """Return the exports to one MLflow server."""
    jobs = JobExport(database, settings, api)
    return Exports(
        jobs,
        SweepExport(database, settings, api, jobs.pictures),
        OrphanExport(database, api),
        Mending(database, api),
    )


class MlflowExporter:
    """Exports to MLflow in a thread. Without `settings.mlflow_url` it does nothing.

    Only one may run per database: two would create two runs of a job.
    """

    def __init__(self, database: Transactions, settings: Settings) -> None:
        self._database = database
        secret = settings.mlflow_secret.get_secret_value() if settings.mlflow_secret else None
        self._api = MlflowApi(settings.mlflow_url.get_secret_value(), secret) if settings.mlflow_url else None
        self._exports = None if self._api is None else exports(database, settings, self._api)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-exporter", daemon=True)
        self._failures: Counter[str] = Counter()
        self._failed_rounds = 0
        self._set_aside: dict[str, SetAside] = {}
        self._unbegun_after = ""  # id of the job up to which jobs that have not begun were looked at
        self._more_unbegun = False
        self._oldest_pending: float | None = None  # time of the oldest pending point, in seconds since 1970

    def start(self) -> None:
        """Start the thread."""
        if self._api is not None:
            UNEXPORTED_SECONDS.set_function(self._pending_seconds)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, even during a request. The remaining data is exported after the next start."""
        self._stopping.set()
        if self._api is not None and self._thread.is_alive():
            self._thread.join(ANSWER_SECONDS)
            self._api.interrupt()
            self._thread.join()
        if self._exports is not None:
            self._exports.jobs.close()
        if self._api is not None:
            self._api.close()
            self._oldest_pending = None
            UNEXPORTED_POINTS.set(0)

    def status(self) -> ComponentStatus:
        """Return whether the export works."""
        if self._api is None:
            return ComponentStatus(ready=True, detail="no MLflow server is configured")
        if not self._thread.is_alive():
            return ComponentStatus(ready=False, detail="the export is not running")
        if self._failed_rounds:
            return ComponentStatus(ready=False, detail="MLflow does not respond; the data is kept in the database")
        return ComponentStatus(ready=True, detail="exporting")

    def step(self) -> float:
        """Export pending data, at most one batch of points per job. Returns the seconds to wait until the next step."""
        wait = self._send_batches(self._pending())
        self._measure()
        return wait

    def _send_batches(self, pending: Sequence[tuple[Export, str]]) -> float:
        more = self._more_unbegun
        # Items that failed before come last, so that they do not delay others.
        for export, item_id in sorted(pending, key=lambda item: self._failures[item[1]]):
            try:
                more |= self._export(export, item_id)
                self._failures.pop(item_id, None)
            except UnavailableError as error:
                self._failures[item_id] += 1
                self._failed_rounds += 1
                if self._failed_rounds == 1 and not self._stopping.is_set():
                    logger.warning("MLflow is unavailable, retrying: %s", error)
                return min(2.0 ** (self._failed_rounds - 1), LONGEST_WAIT_SECONDS)
            if self._stopping.is_set():
                break
        if self._failed_rounds:
            logger.info("MLflow is available again")
            self._failed_rounds = 0
            if self._exports is not None:
                self._exports.mending.due = True  # a lost answer may have left a duplicate run
        return 0.0 if more else IDLE_SECONDS

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self.step()
            except LeaseLostError:
                return  # another process exports now
            except SQLAlchemyError:
                logger.exception("the database does not respond")
                wait = IDLE_SECONDS

    def _pending(self) -> list[tuple[Export, str]]:
        if self._exports is None:
            return []
        pending: list[tuple[Export, str]] = []
        with self._database.reading() as session:
            pending += [(self._exports.jobs, job_id) for job_id in pending_jobs(session)]
            unbegun, self._unbegun_after = pending_unbegun(session, self._unbegun_after, UNBEGUN_PER_STEP)
            pending += [(self._exports.jobs, job_id) for job_id in unbegun]
            self._more_unbegun = len(unbegun) == UNBEGUN_PER_STEP
            sweeps = pending_sweeps(session, without=self._set_aside)
            pending += [(self._exports.sweeps, sweep_id) for sweep_id in sweeps]
            pending += [(self._exports.orphans, run_id) for run_id in orphaned_runs(session)]
        if self._exports.mending.due:
            pending.append((self._exports.mending, "mending"))
        begun = time.monotonic()
        later = {item_id for item_id, aside in self._set_aside.items() if aside.due > begun}
        return [(export, item_id) for export, item_id in pending if item_id not in later]

    def _measure(self) -> None:
        with self._database.reading() as session:
            backlog = measure_backlog(session, without=self._set_aside)
        UNEXPORTED_POINTS.set(backlog.points)
        self._oldest_pending = None if backlog.oldest_ms is None else backlog.oldest_ms / 1000

    def _pending_seconds(self) -> float:
        return 0.0 if self._oldest_pending is None else time.time() - self._oldest_pending

    def _export(self, export: Export, item_id: str) -> bool:
        """Export an item. Returns True if there is more than fits into one batch."""
        try:
            more = export.export(item_id)
        except RejectedError as error:
            # Others go first until a user has changed something in MLflow.
            wait = self._set_aside[item_id].wait if item_id in self._set_aside else FIRST_REPEAT_SECONDS
            self._set_aside[item_id] = SetAside(time.monotonic() + wait, min(2 * wait, LONGEST_REPEAT_SECONDS))
            export.record_rejection(item_id, error)
            return False
        self._set_aside.pop(item_id, None)
        return more
