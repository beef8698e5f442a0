"""The scheduler: takes jobs from the queue to the Ray cluster, and to the attempts that run there what users ask.

The database is the truth and Ray is disposable. Every pass compares the two: live jobs that nobody follows are looked
for on the cluster, attempts are told what their jobs' rows say, and queued jobs are started where they fit. A cluster
that has died is started again, and its jobs go on from their checkpoints.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from service.datasets.repository import info_of
from service.follower import Follower
from service.jobs.recording import end_attempt, max_restarts
from service.jobs.repository import get_attempt, jobs_in, move, note_waiting, start_attempt
from service.jobs.states import LIVE, State
from service.store.models import Job
from workers.cluster import Attempt, Supervisors
from workers.events import Ended
from workers.spec import ResourcesSpec
from workers.trainer import Assignment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.settings import Settings
    from service.store import Database

IDLE_WAIT = 1.0  # seconds between passes when nothing wakes the scheduler
KEPT = {"succeeded", "cancelled", "paused"}  # outcomes of attempts whose supervisors are fit for another one

CLUSTER_LOST = Ended("lost", "cluster_lost", "the whole cluster died")
DID_NOT_BEGIN = Ended("lost", "supervisor_lost", "the supervisor did not take the attempt")
SERVICE_RESTARTED = Ended("interrupted", "service_restarted")

log = logging.getLogger(__name__)


class Cluster(Protocol):
    """What the scheduler needs to know of the cluster as a whole."""

    @property
    def resources(self) -> Mapping[str, float]:
        """CPUs and GPUs that it has for workers, busy or not, by Ray's names."""

    def failed(self) -> bool:
        """Whether it has died, so that calls of it may never come back."""

    def restart(self) -> None:
        """Start it again, with nothing on it."""


class Scheduler:
    """Runs the queue in threads of its own, on the Ray cluster that this process is connected to."""

    def __init__(self, database: Database, settings: Settings, cluster: Cluster) -> None:
        self._database, self._settings, self._cluster = database, settings, cluster
        self._supervisors = Supervisors()
        self._adopted = False
        self._supervisor: str | None = None  # the one taken for the next attempt
        self._followers: dict[tuple[str, int], Follower] = {}
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler")

    def start(self) -> None:
        """Adopt what runs already, then serve the queue."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the jobs now: one was added, a user has asked something of one, or one has ended."""
        self._wake.set()

    def stop(self) -> None:
        """End the threads. Attempts go on; a scheduler that starts later adopts them."""
        self._stopping.set()
        self.wake()
        self._thread.join()
        self._stop_followers()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._pass()
            except Exception:  # whatever it was, the other jobs want to go on
                log.exception("the database or the cluster did not answer; trying again")
            self._wake.wait(IDLE_WAIT)

    def _pass(self) -> None:
        if self._cluster.failed():
            self._replace_cluster()
        self._let_go()
        with self._database.reading() as session:
            jobs = jobs_in(session, [State.QUEUED, *LIVE])
        live = [job for job in jobs if job.state in LIVE]
        self._adopt([job for job in live if (job.id, job.attempt) not in self._followers])
        self._pass_on(live)
        self._admit([job for job in jobs if job.state == State.QUEUED], live)
        if not jobs:
            self._supervisors.keep_warm()

    def _replace_cluster(self) -> None:
        """Start the cluster again; its jobs go back to the queue."""
        log.error("the cluster has died; starting it again")
        self._stop_followers()
        for (job_id, number), follower in self._followers.items():
            if follower.end is None:
                self._write_end(job_id, number, CLUSTER_LOST)
        self._followers.clear()
        self._cluster.restart()
        self._supervisors, self._supervisor = Supervisors(), None

    def _let_go(self) -> None:
        """Give back the supervisors of the attempts that have ended."""
        for key, follower in list(self._followers.items()):
            if follower.end is not None:
                del self._followers[key]
                if follower.end.outcome in KEPT:
                    self._supervisors.give_back(follower.attempt)
                else:
                    follower.attempt.dismiss()

    def _adopt(self, jobs: Sequence[Job]) -> None:
        """Follow the attempts that nobody follows yet; the jobs of those that are not there go back to the queue."""
        for job in jobs:
            with self._database.reading() as session:
                row = get_attempt(session, job.id, job.attempt)
            found = Attempt.find(job.id, row.number, row.supervisor) if row.supervisor is not None else None
            if row.supervisor is None or found is None:
                self._write_end(job.id, row.number, DID_NOT_BEGIN if self._adopted else SERVICE_RESTARTED)
            else:
                self._follow(job.id, row.number, found, last_event=row.last_event)
        if not self._adopted:
            self._supervisors.adopt({follower.attempt.supervisor for follower in self._followers.values()})
            self._adopted = True

    def _pass_on(self, jobs: Sequence[Job]) -> None:
        """Tell attempts what their jobs' rows say."""
        for job in jobs:
            follower, resources = self._followers.get((job.id, job.attempt)), _resources(job)
            if follower is None:
                continue  # it has just gone back to the queue
            if job.state == State.CANCELLING:
                follower.attempt.cancel()
            elif job.state == State.PAUSING:
                follower.attempt.pause()
            elif follower.resources != resources:
                follower.attempt.resize(resources)
                follower.resources = resources

    def _admit(self, queued: Sequence[Job], live: Sequence[Job]) -> None:
        """Start queued jobs, first come first served, as long as all the workers of the next one fit."""
        capacity = self._cluster.resources
        free = {name: max(there - _busy(name, live), 0) for name, there in capacity.items()}
        for job in queued:
            needs = _resources(job).total
            lacking = next((name for name, needed in needs.items() if needed > free[name]), None)
            if lacking is None:
                free = {name: there - needs[name] for name, there in free.items()}
                self._launch(job.id)
                continue
            reason = (
                f"waiting_for_{lacking.lower()}s: needs {needs[lacking]} {lacking}s, and {free[lacking]:g} of the "
                f"cluster's {capacity[lacking]:g} are free"
            )
            if reason != job.reason:
                with self._database.writing() as session:
                    note_waiting(session, job.id, reason)
            if all(needed <= capacity[name] for name, needed in needs.items()):
                break  # its turn comes before that of smaller jobs behind it

    def _launch(self, job_id: str) -> None:
        if self._supervisor is None:
            self._supervisor = self._supervisors.take()
        with self._database.writing() as session:
            if not move(session, job_id, from_=State.QUEUED, to=State.STARTING):
                return  # cancelled or paused meanwhile
            number = start_attempt(session, job_id, self._supervisor)
            job = session.get_one(Job, job_id)
            assignment = Assignment(
                job=job_id,
                attempt=number,
                spec=job.spec,
                dataset=info_of(job.dataset),
                standardization=None,
                directory=self._settings.job_dir(job_id).absolute(),
                reported_step=job.step,
                restarts_left=max(max_restarts(job.spec) - job.restarts, 0),
            )
        supervisor, self._supervisor = self._supervisor, None
        # Where this raises, the attempt may have begun all the same: the next pass finds that nobody follows it.
        attempt = Attempt.start(assignment, supervisor)
        self._follow(job_id, number, attempt, last_event=0)
        self._followers[job_id, number].resources = ResourcesSpec.model_validate(assignment.spec["resources"])

    def _follow(self, job_id: str, number: int, attempt: Attempt, last_event: int) -> None:
        self._followers[job_id, number] = Follower(
            self._database, job_id, number, attempt, last_event=last_event, on_end=self.wake
        )

    def _stop_followers(self) -> None:
        for follower in self._followers.values():
            follower.stop()
        for follower in self._followers.values():
            follower.join()

    def _write_end(self, job_id: str, number: int, end: Ended) -> None:
        with self._database.writing() as session:
            end_attempt(session, job_id, number, end)


def _busy(name: str, jobs: Sequence[Job]) -> int:
    return sum(_resources(job).total[name] for job in jobs)


def _resources(job: Job) -> ResourcesSpec:
    return ResourcesSpec.model_validate(job.spec["resources"])
