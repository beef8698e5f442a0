"""The scheduler starts queued jobs on the Ray cluster, and passes the actions of users to running attempts.

The database is the source of truth and Ray is disposable. Every pass compares the two: live jobs without a follower are
looked up on the cluster, actions in the database are passed to attempts, and queued jobs are started if they fit. A
cluster that has died is restarted, and its jobs continue from their checkpoints.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from ray.exceptions import RayTaskError
from sqlalchemy import select

from service.components import ComponentStatus
from service.datasets.repository import located
from service.jobs.actions import remove_left_points
from service.jobs.certificates.replays import next_replay
from service.jobs.events import queued_at
from service.jobs.recording import end_attempt, max_restarts
from service.jobs.repository import get_attempt, jobs_in, move, note_attempt_waiting, note_waiting, start_attempt
from service.jobs.states import LIVE, State
from service.scheduling.admission import resources_of
from service.scheduling.arithmetic import at_level
from service.scheduling.follower import Follower
from service.scheduling.queue import Queue
from service.store.lease import LeaseLostError
from service.store.models import DeletedJob, Job, now
from service.sweeps.judging import stop
from service.telemetry.instruments import QUEUE_WAIT, SCHEDULER_FAILURES, SCHEDULER_LAST_PASS, SCHEDULER_PASS
from workers.cluster.attempt import Attempt, StoppingError, Supervisors
from workers.cluster.levels import common_level
from workers.data.dataset import DatasetInfo
from workers.job.spec import ResourcesSpec
from workers.record.events import Ended
from workers.training.assignment import Assignment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.scheduling.queue import Decisions
    from service.settings import Settings
    from service.store import Transactions
    from service.sweeps.judging import Judgement

IDLE_WAIT = 1.0  # seconds between passes without a wake-up
REASONS = 100  # written in one transaction, so that others do not wait for long
RECLAIM = 5.0  # seconds between searches for reservations without a supervisor, while jobs wait
LONGEST_PASS = 30.0  # seconds; includes a restart of the cluster
KEPT = {"succeeded", "cancelled", "paused"}  # outcomes of attempts whose supervisors can run another attempt

CLUSTER_LOST = Ended("lost", "cluster_lost", "the whole cluster died")
DID_NOT_BEGIN = Ended("interrupted", "supervisor_lost", "the supervisor did not take the attempt")
REFUSED = Ended("lost", "supervisor_lost", "the supervisor refused the attempt")
SLOW = "waiting_for_supervisor: its process has not begun the attempt yet; the machine is busy"
SERVICE_RESTARTED = Ended("interrupted", "service_restarted")

log = logging.getLogger(__name__)


class Cluster(Protocol):
    """The cluster as the scheduler uses it."""

    @property
    def resources(self) -> Mapping[str, float]:
        """All CPUs and GPUs for workers, by Ray's names."""

    def levels(self) -> list[list[str]]:
        """For each node with CPUs for workers, its levels of arithmetic."""

    def failed(self) -> bool:
        """Whether the cluster has died, so that calls may never return."""

    def restart(self) -> bool:
        """Restart the cluster, or reconnect to it after a restart; returns False while that is not possible."""

    def leave(self) -> None:
        """Give up the cluster, on which another process schedules now."""


class Scheduler:
    """Runs the queue in its own threads, on the Ray cluster that this process is connected to."""

    def __init__(self, database: Transactions, settings: Settings, cluster: Cluster) -> None:
        self._database, self._settings, self._cluster = database, settings, cluster
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._supervisors, self._queue = Supervisors(self._stopping), Queue()
        self._missing = SERVICE_RESTARTED  # the end of an attempt that is not found
        self._supervisor: str | None = None  # the supervisor for the next attempt
        self._followers: dict[tuple[str, int], Follower] = {}
        self._thread = threading.Thread(target=self._run, name="scheduler")
        self._last_pass = self._reclaimed = time.monotonic()

    def start(self) -> None:
        """Adopt running attempts, then serve the queue."""
        self._thread.start()

    def wake(self) -> None:
        """Start a pass: a job was added, a user acted on a job, or a job ended."""
        self._wake.set()

    def stop(self) -> None:
        """End the threads. Attempts continue; a scheduler that starts later adopts them."""
        self._stopping.set()
        self.wake()
        for follower in list(self._followers.values()):
            follower.stop()
        self._thread.join()
        self._stop_followers()

    def status(self) -> ComponentStatus:
        """Whether the queue is served: passes complete."""
        if not self._thread.is_alive():
            return ComponentStatus(ready=False, detail="it does not run")
        age = time.monotonic() - self._last_pass
        return ComponentStatus(ready=age <= LONGEST_PASS, detail=f"its last pass ended {age:.1f} s ago")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                with SCHEDULER_PASS.time():
                    self._pass()
                self._last_pass = time.monotonic()
                SCHEDULER_LAST_PASS.set_to_current_time()
            except (LeaseLostError, StoppingError):
                return  # another process schedules now, or this one stops
            except Exception:  # the other jobs must continue after any error
                SCHEDULER_FAILURES.inc()
                log.exception("the database or the cluster does not respond; trying again")
            self._wake.wait(IDLE_WAIT)

    def _pass(self) -> None:
        if self._cluster.failed() and not self._replace_cluster():
            return
        self._release_supervisors()
        capacity, levels, most = self._cluster.resources, self._cluster.levels(), self._settings.max_running_jobs
        with self._database.reading() as session:
            live = jobs_in(session, LIVE)
            decisions = self._queue.decide(session, live, capacity, levels, most)
            deleted = session.scalar(select(DeletedJob.job_id).limit(1))
        self._stop_members(decisions.judgement)
        self._adopt([job for job in live if (job.id, job.attempt) not in self._followers])
        self._pass_on(live)
        self._admit(decisions, self._settings.arithmetic or common_level(levels))
        self._reclaim(live)
        if decisions.empty and not live:
            self._supervisors.keep_warm()
        if deleted is not None:
            with self._database.writing() as session:
                remove_left_points(session, deleted)
            self.wake()  # for the next ones

    def _stop_members(self, judgement: Judgement) -> None:
        """Cancel members of sweeps, one by one; after a crash the next pass finds the rest."""
        for job_id, reason in judgement.stop.items():
            with self._database.writing() as session:
                stopped = stop(session, job_id, reason)
            if stopped:
                log.info("job %s: %s", job_id, reason, extra={"job_id": job_id})
                self.wake()  # the cancellation must reach the attempt

    def _replace_cluster(self) -> bool:
        """Replace a dead cluster; returns False while that is not possible. Its jobs are queued again."""
        if self._missing is DID_NOT_BEGIN:
            log.error("the cluster has died")
            self._missing = CLUSTER_LOST
        self._stop_followers()
        self._followers.clear()
        self._supervisors, self._supervisor = Supervisors(self._stopping), None
        return self._cluster.restart()

    def _release_supervisors(self) -> None:
        """Release the supervisors of attempts that have ended."""
        for key, follower in list(self._followers.items()):
            if follower.end is not None:
                del self._followers[key]
                if follower.end.outcome in KEPT:
                    self._supervisors.give_back(follower.attempt)
                else:
                    follower.attempt.dismiss()

    def _adopt(self, jobs: Sequence[Job]) -> None:
        """Follow attempts that have no follower; the jobs of attempts that are not found are queued again."""
        for job in jobs:
            with self._database.reading() as session:
                row = get_attempt(session, job.id, job.attempt)
            found = Attempt.find(job.id, row.number, row.supervisor, self._stopping)
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
        """Pass the actions in the jobs' rows to their attempts."""
        for job in jobs:
            follower, resources = self._followers.get((job.id, job.attempt)), resources_of(job)
            if follower is None:
                continue  # the job has just been queued again
            if job.state == State.CANCELLING:
                follower.attempt.cancel()
            elif job.state == State.PAUSING:
                follower.attempt.pause()
            elif follower.resources != resources:
                follower.attempt.resize(resources)
                follower.resources = resources

    def _admit(self, decisions: Decisions, arithmetic: str | None) -> None:
        """Start the jobs that fit, and record what the others wait for."""
        for job_id in decisions.starting:
            self._launch(job_id, decisions.judgement.until_step.get(job_id), arithmetic)
        reasons = sorted(decisions.reasons.items())  # rows are locked in this order everywhere
        for begin in range(0, len(reasons), REASONS):
            with self._database.writing() as session:
                for job_id, reason in reasons[begin : begin + REASONS]:
                    note_waiting(session, job_id, reason)

    def _reclaim(self, live: Sequence[Job]) -> None:
        """Free what supervisors that are gone have reserved, while attempts may wait for it."""
        waiting = any(job.state == State.STARTING or job.reason for job in live)
        if waiting and time.monotonic() - self._reclaimed > RECLAIM:
            self._supervisors.reclaim()
            self._reclaimed = time.monotonic()

    def _launch(self, job_id: str, until_step: int | None, arithmetic: str | None) -> None:
        if self._supervisor is None:
            self._supervisor = self._supervisors.take()
        with self._database.writing() as session:
            if not move(session, job_id, from_=State.QUEUED, to=State.STARTING):
                return  # cancelled or paused in the meantime
            waited = now() - queued_at(session, job_id)
            number = start_attempt(session, job_id, self._supervisor)
            job = session.get_one(Job, job_id)
            job.spec = at_level(job.spec, arithmetic)
            replay = None
            if (interval := next_replay(session, job_id, self._settings)) is not None:
                replay, job.step, until_step = interval
            assignment = Assignment(
                job=job_id,
                attempt=number,
                spec=job.spec,
                dataset=DatasetInfo.from_json(located(job.dataset, self._settings)),
                scaling=None,
                directory=self._settings.job_dir(job_id).absolute(),
                reported_step=job.step,
                restarts_left=max(max_restarts(job.spec) - job.restarts, 0),
                until_step=until_step,
                replay=replay,
            )
        QUEUE_WAIT.observe(waited.total_seconds())
        log.info("job %s starts", job_id, extra={"job_id": job_id, "attempt": number})
        supervisor, self._supervisor = self._supervisor, None
        # If this raises, the attempt may have started anyway: the next pass finds it without a follower.
        try:
            attempt = Attempt.start(assignment, supervisor, self._stopping)
        except RayTaskError:  # it would refuse it again
            log.exception("the supervisor refused attempt %d of job %s", number, job_id)
            self._supervisors.end(supervisor)
            self._write_end(job_id, number, REFUSED)
            return
        if not attempt.begun:
            with self._database.writing() as session:
                note_attempt_waiting(session, job_id, number, SLOW)
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
