"""The supervisor: one detached Ray actor for each attempt of a job."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from workers.batches import Standardization
from workers.dataset import DatasetError, DatasetInfo, open_dataset, standardization
from workers.events import Ended, Event, Started
from workers.exchange import KEY_BYTES, Membership, PeerSilentError
from workers.fingerprint import fingerprint
from workers.spec import JobSpec
from workers.splitting import split
from workers.trainer import Assignment, PoisonedStepError
from workers.worker import Worker

POLL_WAIT = 1.0  # seconds that a poll waits for news
LAST_WORDS = 1.0  # seconds that the leader gets to end by itself when the attempt fails

# Mypy sees the class and not the actor class that Ray made of it.
_worker: Any = Worker

log = logging.getLogger(__name__)

# What an error of the attempt means. A lost attempt may go better the next time; a failed one would fail again.
MEANINGS: list[tuple[type[Exception], str, str]] = [
    (DatasetError, "failed", "dataset_unavailable"),
    (PoisonedStepError, "failed", "non_finite_loss"),
    (MemoryError, "failed", "out_of_memory"),
    (RayActorError, "lost", "worker_lost"),
    (PeerSilentError, "lost", "worker_silent"),
    (OSError, "failed", "storage_error"),
]
WORKER_LOST = "a worker process ended by itself: it was killed, or its machine went down or ran out of memory"


class Supervisor:
    """Starts an attempt's workers together, gathers their events in order, and ends with one `Ended` event."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment, self._spec = assignment, JobSpec.model_validate(assignment.spec)
        self._events: deque[tuple[int, Event]] = deque()
        self._last = 0
        self._ended = False
        self._news = asyncio.Condition()
        self._stop = asyncio.Event()
        self._workers: list[Any] = []

    async def poll(self, after: int) -> list[tuple[int, Event]]:
        """Events with numbers above `after`, as soon as there are any; none when a second brings none.

        Events up to `after` are forgotten: who asks has them safe.
        """
        async with self._news:
            while self._events and self._events[0][0] <= after:
                self._events.popleft()
            try:
                await asyncio.wait_for(self._news.wait_for(lambda: bool(self._events)), POLL_WAIT)
            except TimeoutError:
                return []
            return list(self._events)

    async def report(self, event: Event) -> None:
        """Append an event; what comes after the end is dropped."""
        async with self._news:
            if self._ended:
                return
            self._ended = isinstance(event, Ended)
            self._last += 1
            self._events.append((self._last, event))
            self._news.notify_all()

    async def cancel(self) -> None:
        """Stop the workers at an agreed step, or do not start them at all."""
        self._stop.set()
        if self._workers:
            await self._workers[0].stop.remote()

    async def run(self, supervisor: Any) -> None:
        """Run the attempt to its end; `supervisor` is this actor's handle, for the workers to report to."""
        group: PlacementGroup = placement_group(
            [{"CPU": self._spec.resources.cpus_per_worker}] * self._spec.resources.workers, strategy="PACK"
        )
        try:
            end = await self._attempt(group, supervisor)
        except Exception as error:  # noqa: BLE001  whatever ends an attempt, its job must hear of it
            end = _meaning(error)
        for worker in self._workers:
            ray.kill(worker)
        remove_placement_group(group)
        await self.report(end)

    async def _attempt(self, group: PlacementGroup, supervisor: Any) -> Ended:
        assignment, resources = self._assignment, self._spec.resources
        if self._spec.data.standardize:
            found = await asyncio.to_thread(_standardization, assignment.dataset, self._spec)
            assignment = replace(assignment, standardization=found)
        if not await self._unless_stopped(group.ready()):
            return CANCELLED
        key = secrets.token_bytes(KEY_BYTES)
        self._workers = [
            _worker.options(
                num_cpus=resources.cpus_per_worker,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            ).remote(Membership(rank, resources.workers, assignment.attempt, key), supervisor)
            for rank in range(resources.workers)
        ]
        addresses = await asyncio.gather(*(worker.address.remote() for worker in self._workers))
        if self._stop.is_set():
            return CANCELLED
        await self.report(Started(fingerprint()))
        trainings = [asyncio.ensure_future(worker.train.remote(assignment, addresses)) for worker in self._workers]
        try:
            done = await asyncio.gather(*trainings)
        finally:
            # When another worker fails first, the leader may still have points to report.
            await asyncio.wait(trainings[:1], timeout=LAST_WORDS)
        return SUCCEEDED if all(done) else CANCELLED

    async def _unless_stopped(self, ready: Any) -> bool:
        """Wait for something; False when the attempt was cancelled meanwhile."""
        waiting = [asyncio.ensure_future(ready), asyncio.ensure_future(self._stop.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            future.cancel()
        return not self._stop.is_set()


SUCCEEDED = Ended("succeeded", "completed")
CANCELLED = Ended("cancelled", "cancelled_by_user")


def _standardization(dataset: DatasetInfo, spec: JobSpec) -> Standardization:
    """Mean and deviation over the training rows of a job."""
    features, _ = open_dataset(dataset)
    train, _ = split(dataset.rows, spec.data.validation, spec.training.seed)
    return Standardization(*standardization(features, train))


def _meaning(error: Exception) -> Ended:
    for kind, outcome, reason in MEANINGS:
        if isinstance(error, kind):
            return Ended(outcome, reason, WORKER_LOST if reason == "worker_lost" else str(_cause(error)))
    log.error("the attempt ended with an error nobody expected", exc_info=error)
    return Ended("failed", "internal_error", f"an error inside Gradfleet: {type(_cause(error)).__name__}")


def _cause(error: Exception) -> Exception:
    """A worker's own exception: Ray wraps it into one with a traceback in its text."""
    return error.cause if isinstance(error, RayTaskError) else error
