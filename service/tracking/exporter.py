"""Tells MLflow about the jobs, as an outbox: from the database, in order, again until it is accepted.

Training never waits for MLflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sqlalchemy.exc import SQLAlchemyError

from service.parts import PartStatus
from service.store.lease import LeaseLostError
from service.telemetry.instruments import UNEXPORTED_POINTS, UNEXPORTED_SECONDS
from service.tracking.backlog import measure_backlog, orphaned_runs, unexported_jobs, unexported_sweeps
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
ANSWER_SECONDS = 2.0  # that MLflow has for its last answer when the export stops


class Export(Protocol):
    """Who tells MLflow of one kind of thing."""

    def tell(self, unexported_id: str, /) -> bool:
        """Send what is new; whether there is more than fits into one batch."""

    def note_refusal(self, unexported_id: str, error: RejectedError, /) -> None:
        """Take note that MLflow does not take it at all."""


class Exports(NamedTuple):
    """Who tells MLflow of what."""

    jobs: JobExport
    sweeps: SweepExport
    orphans: OrphanExport
    mending: Mending


def exports(database: Transactions, settings: Settings, api: MlflowApi) -> Exports:
    """All who speak to one MLflow server."""
    jobs = JobExport(database, settings, api)
    return Exports(
        jobs,
        SweepExport(database, settings, api, jobs.pictures),
        OrphanExport(database, api),
        Mending(database, api),
    )


class MlflowExporter:
    """Sends what MLflow has not been told yet, in a thread of its own; without `settings.mlflow_url` it does nothing.

    One at a time per database: two would make two runs of a job.
    """

    def __init__(self, database: Transactions, settings: Settings) -> None:
        self._database = database
        self._api = MlflowApi(settings.mlflow_url.get_secret_value()) if settings.mlflow_url else None
        self._exports = None if self._api is None else exports(database, settings, self._api)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow-exporter", daemon=True)
        self._failures: Counter[str] = Counter()
        self._failed_rounds = 0
        self._set_aside: set[str] = set()
        self._oldest_unexported: float | None = None  # when the point was measured, in seconds since 1970

    def start(self) -> None:
        """Begin to export."""
        if self._api is not None:
            UNEXPORTED_SECONDS.set_function(self._unexported_seconds)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, whatever it waits for; what is left is sent after the next start."""
        self._stopping.set()
        if self._api is not None and self._thread.is_alive():
            self._thread.join(ANSWER_SECONDS)
            self._api.interrupt()
            self._thread.join()
        if self._exports is not None:
            self._exports.jobs.close()
        if self._api is not None:
            self._api.close()
            self._oldest_unexported = None
            UNEXPORTED_POINTS.set(0)

    def status(self) -> PartStatus:
        """Whether MLflow takes what it is told."""
        if self._api is None:
            return PartStatus(ready=True, detail="no MLflow server is to be told")
        if not self._thread.is_alive():
            return PartStatus(ready=False, detail="the export does not run")
        if self._failed_rounds:
            return PartStatus(ready=False, detail="MLflow does not answer; what it is to be told waits in the database")
        return PartStatus(ready=True, detail="it is told")

    def step(self) -> float:
        """Send what is there, at most one batch of points per job; gives the seconds to wait before the next step."""
        wait = self._send_batches(self._unexported())
        self._measure()
        return wait

    def _send_batches(self, unexported: Sequence[tuple[Export, str]]) -> float:
        more = False
        # What failed before comes last, so that it keeps nothing else waiting.
        for export, unexported_id in sorted(unexported, key=lambda turn: self._failures[turn[1]]):
            try:
                more |= self._export(export, unexported_id)
                self._failures.pop(unexported_id, None)
            except UnavailableError as error:
                self._failures[unexported_id] += 1
                self._failed_rounds += 1
                if self._failed_rounds == 1 and not self._stopping.is_set():
                    logger.warning("MLflow cannot be told, trying again until it can: %s", error)
                return min(2.0 ** (self._failed_rounds - 1), LONGEST_WAIT_SECONDS)
            if self._stopping.is_set():
                break
        if self._failed_rounds:
            logger.info("MLflow answers again")
            self._failed_rounds = 0
            if self._exports is not None:
                self._exports.mending.due = True  # an answer that was lost may have left something
        return 0.0 if more else IDLE_SECONDS

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self.step()
            except LeaseLostError:
                return  # another process goes on
            except SQLAlchemyError:
                logger.exception("the database does not respond")
                wait = IDLE_SECONDS

    def _unexported(self) -> list[tuple[Export, str]]:
        if self._exports is None:
            return []  # nobody is to be told
        turns: list[tuple[Export, str]] = []
        with self._database.reading() as session:
            turns += [(self._exports.jobs, job_id) for job_id in unexported_jobs(session)]
            sweeps = unexported_sweeps(session, without=self._set_aside)
            turns += [(self._exports.sweeps, sweep_id) for sweep_id in sweeps]
            turns += [(self._exports.orphans, run_id) for run_id in orphaned_runs(session)]
        if self._exports.mending.due:
            turns.append((self._exports.mending, "mending"))
        return [(export, unexported_id) for export, unexported_id in turns if unexported_id not in self._set_aside]

    def _measure(self) -> None:
        with self._database.reading() as session:
            backlog = measure_backlog(session, without=self._set_aside)
        UNEXPORTED_POINTS.set(backlog.points)
        self._oldest_unexported = None if backlog.oldest_ms is None else backlog.oldest_ms / 1000

    def _unexported_seconds(self) -> float:
        return 0.0 if self._oldest_unexported is None else time.time() - self._oldest_unexported

    def _export(self, export: Export, unexported_id: str) -> bool:
        """Tell MLflow what is new about a job or a sweep; whether there is more than fitted into one batch."""
        try:
            return export.tell(unexported_id)
        except RejectedError as error:
            # Nothing can be done about it until somebody has changed something; a restart tries again.
            self._set_aside.add(unexported_id)
            export.note_refusal(unexported_id, error)
            return False
