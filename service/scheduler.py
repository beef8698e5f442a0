"""The scheduler: takes jobs from the queue to the Ray cluster, and what their supervisors tell into the database.

The database is the truth and Ray is disposable. An event is written first and confirmed to the supervisor with the next
poll; events that come twice change nothing. A supervisor that is gone means a new attempt, which computes the same bits
again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ray.exceptions import RayError
from sqlalchemy.exc import OperationalError

from service.datasets.repository import info_of
from service.jobs.metrics import Point, record_points
from service.jobs.repository import (
    finish_attempt,
    get_job,
    jobs_in,
    lost_attempts,
    move,
    note_waiting,
    record_progress,
    record_result,
    start_attempt,
)
from service.jobs.states import TERMINAL, State
from service.store.models import Job
from workers.cluster import Attempt, AttemptLostError, cluster_cpus
from workers.events import Checkpointed, Ended, Event, Progress, Started
from workers.spec import ResourcesSpec
from workers.trainer import Assignment

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from service.settings import Settings
    from service.store import Database

MAX_LOST_ATTEMPTS = 3
IDLE_WAIT = 1.0  # seconds between looks at the queue when nothing wakes the scheduler
RETRY_WAIT = 1.0  # seconds before a database that did not answer is asked again

LIVE = (State.STARTING, State.RUNNING, State.CANCELLING)

log = logging.getLogger(__name__)


class Scheduler:
    """Runs the queue in threads of its own, on the Ray cluster that this process is connected to."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._followed: dict[tuple[str, int], tuple[Attempt, threading.Thread]] = {}
        self._thread = threading.Thread(target=self._run, name="scheduler")

    def start(self) -> None:
        """Adopt what runs already, then serve the queue."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue now: a job was added, cancelled, or has ended."""
        self._wake.set()

    def stop(self) -> None:
        """End the threads. Attempts go on; a scheduler that starts later adopts them."""
        self._stopping.set()
        self.wake()
        self._thread.join()
        for _, thread in list(self._followed.values()):
            thread.join()

    def _run(self) -> None:
        recovered = False
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if not recovered:
                    self._recover()
                    recovered = True
                self._pass_on_cancellations()
                self._admit()
            except (OperationalError, RayError):
                log.exception("the database or the cluster did not answer; trying again")
            self._wake.wait(IDLE_WAIT)

    def _recover(self) -> None:
        """Adopt the attempts whose supervisors live, and put the others' jobs back into the queue."""
        with self._database.reading() as session:
            live = [(job.id, job.attempt) for job in jobs_in(session, LIVE)]
        for job_id, number in live:
            attempt = Attempt.find(job_id, number)
            if attempt is not None:
                self._follow(job_id, number, attempt)
            else:
                self._write_end(job_id, number, Ended("interrupted", "service_restarted"))

    def _pass_on_cancellations(self) -> None:
        with self._database.reading() as session:
            for job in jobs_in(session, [State.CANCELLING]):
                followed = self._followed.get((job.id, job.attempt))
                if followed is not None:
                    followed[0].cancel()

    def _admit(self) -> None:
        """Start queued jobs, first come first served, as long as all the workers of the next one fit."""
        capacity = cluster_cpus()
        with self._database.reading() as session:
            free = capacity - sum(_cpus(job) for job in jobs_in(session, LIVE))
            queued = [(job.id, _cpus(job), job.reason) for job in jobs_in(session, [State.QUEUED])]
        for job_id, cpus, noted in queued:
            if cpus <= free:
                free -= cpus
                self._launch(job_id)
                continue
            reason = f"waiting_for_cpus: needs {cpus} CPUs, and {free:g} of the cluster's {capacity:g} are free"
            if reason != noted:
                with self._database.writing() as session:
                    note_waiting(session, job_id, reason)
            if cpus <= capacity:
                break  # its turn comes before that of smaller jobs behind it

    def _launch(self, job_id: str) -> None:
        with self._database.writing() as session:
            if not move(session, job_id, from_=State.QUEUED, to=State.STARTING):
                return  # cancelled meanwhile
            number = start_attempt(session, job_id)
            job = session.get_one(Job, job_id)
            assignment = Assignment(
                job=job_id,
                attempt=number,
                spec=job.spec,
                dataset=info_of(job.dataset),
                standardization=None,
                directory=self._settings.job_dir(job_id).absolute(),
            )
        try:
            attempt = Attempt.start(assignment)
        except RayError as error:
            self._write_end(job_id, number, Ended("lost", "cluster_unavailable", str(error)))
            return
        self._follow(job_id, number, attempt)

    def _follow(self, job_id: str, number: int, attempt: Attempt) -> None:
        thread = threading.Thread(target=self._record, args=(job_id, number, attempt), name=f"follow-{job_id}")
        self._followed[job_id, number] = attempt, thread
        thread.start()

    def _record(self, job_id: str, number: int, attempt: Attempt) -> None:
        """Write an attempt's events until it ends."""
        confirmed = 0
        while not self._stopping.is_set():
            try:
                events = attempt.poll(confirmed)
            except AttemptLostError as error:
                events = [(confirmed + 1, Ended("lost", "supervisor_lost", str(error)))]
            if not events:
                continue
            try:
                with self._database.writing() as session:
                    for _, event in events:
                        _write_event(session, job_id, number, event)
            except OperationalError:
                log.exception("the events of job %s could not be written; trying again", job_id)
                self._stopping.wait(RETRY_WAIT)
                continue
            confirmed, last = events[-1]
            if isinstance(last, Ended):
                attempt.dismiss()
                del self._followed[job_id, number]
                self.wake()
                return

    def _write_end(self, job_id: str, number: int, end: Ended) -> None:
        with self._database.writing() as session:
            _write_event(session, job_id, number, end)


def _write_event(session: Session, job_id: str, number: int, event: Event) -> None:
    """Write one event of an attempt; one of an attempt that is no longer the current one changes nothing."""
    match event:
        case Started():
            move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=number)
        case Progress():
            points = (
                Point(name, step, value, moment)
                for name, series in event.series.items()
                for step, value, moment in zip(
                    series.steps.tolist(), series.values.tolist(), series.times.tolist(), strict=True
                )
            )
            record_points(session, job_id, number, points)
            record_progress(session, job_id, number, epoch=event.epoch, step=event.step)
        case Checkpointed():
            record_result(session, job_id, number, params_sha256=event.params_sha256)
        case Ended():
            _end_attempt(session, job_id, number, event)


def _end_attempt(session: Session, job_id: str, number: int, end: Ended) -> None:
    reason = f"{end.reason}: {end.message}" if end.message else end.reason
    if not finish_attempt(session, job_id, number, outcome=end.outcome, reason=reason):
        return
    job = get_job(session, job_id)
    if job is None or job.state in TERMINAL:
        return
    state = State(job.state)
    match end.outcome:
        case "succeeded":
            target = State.SUCCEEDED
        case "failed":
            target = State.FAILED
        case "cancelled":
            target = State.CANCELLED
        case _ if state is State.CANCELLING:
            target = State.CANCELLED
        case "lost" if lost_attempts(session, job_id) >= MAX_LOST_ATTEMPTS:
            target = State.FAILED
        case _:
            target = State.QUEUED
    move(session, job_id, from_=state, to=target, reason=reason, attempt=number)


def _cpus(job: Job) -> int:
    """CPUs that all the workers of a job need together."""
    return ResourcesSpec.model_validate(job.spec["resources"]).cpus
