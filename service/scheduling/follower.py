"""Follows an attempt: events of its supervisor are written to the database, in order, until the attempt ends."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ray.exceptions import RayError
from sqlalchemy.exc import SQLAlchemyError

from service.jobs.recording import record_events
from service.jobs.repository import progress_of
from service.store.lease import LeaseLostError
from service.telemetry.training import observe_training
from workers.cluster.attempt import Attempt, AttemptLostError, NotBegunError, StoppingError
from workers.record.events import Ended
from workers.record.pieces import first_piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.store import Transactions
    from workers.job.spec import ResourcesSpec
    from workers.record.events import Event

RETRY_WAIT = 1.0  # seconds before the next try when the database or the cluster does not respond

log = logging.getLogger(__name__)


class Follower:
    """Writes the events of an attempt in its own thread.

    An event is written first and confirmed to the supervisor with the next poll. After the attempt's end is written,
    `end` is set and `on_end` is called in the follower's thread. `resources` is for the scheduler: the last resources
    that were sent to the attempt, None if they are unknown.
    """

    def __init__(
        self,
        database: Transactions,
        job_id: str,
        number: int,
        attempt: Attempt,
        *,
        last_event: int,
        on_end: Callable[[], None],
    ) -> None:
        self.attempt = attempt
        self.resources: ResourcesSpec | None = None
        self.end: Ended | None = None
        self._database, self._job_id, self._number = database, job_id, number
        self._written, self._on_end = last_event, on_end
        self._log = logging.LoggerAdapter(log, {"job_id": job_id, "attempt": number})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{job_id}")
        self._thread.start()

    def stop(self) -> None:
        """End the thread, even while it waits for an answer; the attempt continues."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        while self.end is None and not self._stopping.is_set():
            try:
                # After a delay there can be many events. Written at once, they would keep the lease's turn for minutes.
                self._write(first_piece(self._poll()))
            except (LeaseLostError, StoppingError):
                return  # this process, or another one, follows the attempt later
            except (SQLAlchemyError, RayError):
                self._log.exception("the events of job %s could not be fetched or written; trying again", self._job_id)
                self._stopping.wait(RETRY_WAIT)

    def _poll(self) -> list[tuple[int, Event]]:
        try:
            return self.attempt.poll(self._written, self._stopping)
        except NotBegunError as error:  # its job has lost nothing: this is no restart
            return [(self._written + 1, Ended("interrupted", "supervisor_lost", str(error)))]
        except AttemptLostError as error:
            return [(self._written + 1, Ended("lost", "supervisor_lost", str(error)))]

    def _write(self, events: list[tuple[int, Event]]) -> None:
        if not events:
            return
        with self._database.writing() as session:
            before, created_at = progress_of(session, self._job_id)
            record_events(session, self._job_id, self._number, events)
            after, _ = progress_of(session, self._job_id)
        observe_training(events, before, after, created_at)
        self._written, last = events[-1]
        if isinstance(last, Ended):
            self.end = last
            self._log.info("the attempt has ended: %s, %s", last.outcome, last.reason)
            self._on_end()
