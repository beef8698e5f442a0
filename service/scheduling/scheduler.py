"""The scheduler: takes jobs from the queue to the Ray cluster, and to the attempts that run there what users ask.

The database is the truth and Ray is disposable. Every pass compares the two: live jobs that nobody follows are looked
for on the cluster, attempts are told what their jobs' rows say, and queued jobs are started where they fit. A cluster
that has died is started again, and its jobs go on from their checkpoints.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from service.jobs.events import queued_at
from service.jobs.recording import end_attempt, max_restarts
from service.jobs.repository import get_attempt, jobs_in, move, note_waiting, start_attempt
from service.jobs.states import LIVE, State
from service.parts import PartStatus
from service.scheduling.admission import admission, resources_of
from service.scheduling.follower import Follower
from service.store.lease import LeaseLostError
from service.store.models import Job, now
from service.sweeps.judging import judge, stop
from service.sweeps.repository import parallel_limits
from service.telemetry.instruments import QUEUE_WAIT, SCHEDULER_FAILURES, SCHEDULER_LAST_PASS, SCHEDULER_PASS
from workers.cluster.attempt import Attempt, Supervisors
from workers.data.dataset import DatasetInfo
from workers.job.spec import ResourcesSpec
from workers.record.events import Ended
from workers.training.trainer import Assignment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.settings import Settings
    from service.store import Transactions
    from service.sweeps.judging import Judgement

IDLE_WAIT = 1.0  # seconds between passes when nothing wakes the scheduler
LONGEST_PASS = 30.0  # seconds; starting the cluster again takes a part of it
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

    def restart(self) -> bool:
        """Start it again, or join it again once somebody has; False as long as nobody has. Returns soon."""

    def leave(self) -> None:
        """Another process schedules on it from here on."""


class Scheduler:
    """Runs the queue in threads of its own, on the Ray cluster that this process is connected to."""

    def __init__(self, database: Transactions, settings: Settings, cluster: Cluster) -> None:
        self._database, self._settings, self._cluster = database, settings, cluster
        self._supervisors = Supervisors()
        self._missing = SERVICE_RESTARTED  # the end of an attempt that is not there
        self._supervisor: str | None = None  # the one taken for the next attempt
        self._followers: dict[tuple[str, int], Follower] = {}
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler")
        self._last_pass = time.monotonic()

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

    def status(self) -> PartStatus:
        """Whether the queue is served: passes come to their end."""
        if not self._thread.is_alive():
            return PartStatus(ready=False, detail="it does not run")
        age = time.monotonic() - self._last_pass
        return PartStatus(ready=age <= LONGEST_PASS, detail=f"its last pass ended {age:.1f} s ago")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                with SCHEDULER_PASS.time():
                    self._pass()
                self._last_pass = time.monotonic()
                SCHEDULER_LAST_PASS.set_to_current_time()
            except LeaseLostError:
                return  # another process schedules now
            except Exception:  # whatever it was, the other jobs want to go on
                SCHEDULER_FAILURES.inc()
                log.exception("the database or the cluster did not answer; trying again")
            self._wake.wait(IDLE_WAIT)

    def _pass(self) -> None:
        if self._cluster.failed() and not self._replace_cluster():
            return
        self._let_go()
        with self._database.reading() as session:
            jobs = jobs_in(session, [State.QUEUED, *LIVE])
            parallel = parallel_limits(session, jobs)
            judgement = judge(session, jobs)
        self._stop_members(judgement)
        live = [job for job in jobs if job.state in LIVE]
        self._adopt([job for job in live if (job.id, job.attempt) not in self._followers])
        self._pass_on(live)
        queued = [job for job in jobs if job.state == State.QUEUED and job.id not in judgement.stop]
        self._admit(queued, live, parallel, judgement)
        if not jobs:
            self._supervisors.keep_warm()

    def _stop_members(self, judgement: Judgement) -> None:
        """Cancel the members of sweeps that are hopeless, one by one: what is left of them is found again."""
        for job_id, reason in judgement.stop.items():
            with self._database.writing() as session:
                stopped = stop(session, job_id, reason)
            if stopped:
                log.info("job %s: %s", job_id, reason, extra={"job_id": job_id})
                self.wake()  # an attempt has to be told

    def _replace_cluster(self) -> bool:
        """Have the cluster again; False while that can not be. What is not on it any more goes back to the queue."""
        if self._missing is DID_NOT_BEGIN:
            log.error("the cluster has died")
            self._missing = CLUSTER_LOST
        self._stop_followers()
        self._followers.clear()
        self._supervisors, self._supervisor = Supervisors(), None
        return self._cluster.restart()

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
            found = Attempt.find(job.id, row.number, row.supervisor)
            if found is None:
                # Another process that has stalled may be starting the attempt: the supervisor must not begin it.
                self._supervisors.end(row.supervisor)
                self._write_end(job.id, row.number, self._missing)
            else:
                self._follow(job.id, row.number, found, last_event=row.last_event)
        if self._missing is not DID_NOT_BEGIN:
            self._supervisors.adopt({follower.attempt.supervisor for follower in self._followers.values()})
            self._missing = DID_NOT_BEGIN

    def _pass_on(self, jobs: Sequence[Job]) -> None:
        """Tell attempts what their jobs' rows say."""
        for job in jobs:
            follower, resources = self._followers.get((job.id, job.attempt)), resources_of(job)
            if follower is None:
                continue  # it has just gone back to the queue
            if job.state == State.CANCELLING:
                follower.attempt.cancel()
            elif job.state == State.PAUSING:
                follower.attempt.pause()
            elif follower.resources != resources:
                follower.attempt.resize(resources)
                follower.resources = resources

    def _admit(
        self, queued: Sequence[Job], live: Sequence[Job], parallel: Mapping[str | None, int], judgement: Judgement
    ) -> None:
        """Start the queued jobs whose turn it is, and tell the others what they wait for."""
        resources, most = self._cluster.resources, self._settings.max_running_jobs
        starting, waiting = admission(queued, live, resources, most, parallel, judgement.hold)
        for job_id in starting:
            self._launch(job_id, judgement.until_step.get(job_id))
        news = {job.id: waiting[job.id] for job in queued if job.id in waiting and waiting[job.id] != job.reason}
        if news:
            with self._database.writing() as session:
                for job_id, reason in news.items():
                    note_waiting(session, job_id, reason)

    def _launch(self, job_id: str, until_step: int | None) -> None:
        if self._supervisor is None:
            self._supervisor = self._supervisors.take()
        with self._database.writing() as session:
            if not move(session, job_id, from_=State.QUEUED, to=State.STARTING):
                return  # cancelled or paused meanwhile
            waited = now() - queued_at(session, job_id)
            number = start_attempt(session, job_id, self._supervisor)
            job = session.get_one(Job, job_id)
            assignment = Assignment(
                job=job_id,
                attempt=number,
                spec=job.spec,
                dataset=DatasetInfo.from_json(job.dataset),
                scaling=None,
                directory=self._settings.job_dir(job_id).absolute(),
                reported_step=job.step,
                restarts_left=max(max_restarts(job.spec) - job.restarts, 0),
                until_step=until_step,
            )
        QUEUE_WAIT.observe(waited.total_seconds())
        log.info("job %s starts", job_id, extra={"job_id": job_id, "attempt": number})
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
