"""One attempt of a job, from the start of its workers to its last event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from ray.exceptions import (
    ActorUnschedulableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from core import InvalidIndexError
from workers.cluster.group import IdleWorkers, WorkerGroup, WorkerSilentError
from workers.cluster.placement import Placement
from workers.data.dataset import DatasetError
from workers.exchange.control import Command
from workers.exchange.messages import PeerSilentError
from workers.job.data import preparation_of, scaling_of, target_scaling_of
from workers.job.spec import JobSpec, ResourcesSpec
from workers.machine.arithmetic import LevelError
from workers.machine.device import DeviceError
from workers.machine.error_text import FULL, text_of
from workers.machine.fingerprint import FingerprintError
from workers.record.checkpoint import CheckpointError, latest, latest_whole
from workers.record.event_log import EventLog
from workers.record.events import CHECKPOINT_CHANGED, REACHED_STEP, Ended, Event, Noted, Restarted
from workers.training.assignment import Assignment, End
from workers.training.trainer import NonFiniteStepError

CANCEL_PATIENCE = 30.0  # seconds after which the workers of a cancelled job are killed in the middle of a step

T = TypeVar("T")

log = logging.getLogger(__name__)

# The outcome and the reason of an attempt that ends with an error. A lost attempt may succeed when it is repeated; a
# failed one would fail again.
MEANINGS: list[tuple[type[Exception], str, str]] = [
    (DatasetError, "failed", "dataset_unavailable"),
    (NonFiniteStepError, "failed", "non_finite_loss"),
    (InvalidIndexError, "failed", "invalid_index"),
    (DeviceError, "failed", "gpu_unavailable"),
    (LevelError, "failed", "arithmetic_unavailable"),
    (FingerprintError, "failed", "workers_differ"),
    (MemoryError, "failed", "out_of_memory"),
    (RayActorError, "lost", "worker_lost"),
    (ActorUnschedulableError, "lost", "worker_lost"),  # its node is gone
    (NodeDiedError, "lost", "worker_lost"),
    (WorkerCrashedError, "lost", "worker_lost"),
    (OutOfMemoryError, "lost", "worker_lost"),  # killed by Ray, before the node is out of memory
    (PeerSilentError, "lost", "worker_silent"),
    (WorkerSilentError, "lost", "worker_silent"),
    (CheckpointError, "lost", "checkpoint_damaged"),
    (OSError, "failed", "storage_error"),
]
DISK_FULL = "its checkpoints and history could not be written: make space, then submit it again"
WORKER_LOST = "a worker process ended by itself: it was killed, or its machine went down or ran out of memory"

CANCELLED = Ended("cancelled", "cancelled_by_user")
PAUSED = Ended("paused", "paused_by_user")
REACHED = Ended("paused", REACHED_STEP, "the attempt was to train up to this step")
ENDS = {
    End.COMPLETED: Ended("succeeded", "completed"),
    End.EARLY: Ended("succeeded", "stopped_early", "the watched metric has not become better for `patience` epochs"),
}


class Supervision:
    """Trains an attempt with one group of workers after another until it ends."""

    def __init__(self, assignment: Assignment, idle: IdleWorkers, placement: Placement, supervisor: Any) -> None:
        self.assignment, self.log = assignment, EventLog(assignment.reported_step)
        self._spec = JobSpec.model_validate(assignment.spec)
        self._resources = self._spec.resources
        self._idle, self._placement, self._supervisor = idle, placement, supervisor
        self._group: WorkerGroup | None = None
        # The action that the user requested, and an event that is set with it.
        self._requested: Ended | None = None
        self._interrupted = asyncio.Event()

    async def run(self) -> None:
        """Train until the attempt ends; the last event says how."""
        try:
            end = await self._train()
        except Exception as error:  # noqa: BLE001  any error ends the attempt with an event
            end = self._meaning(error)
        await self.log.append(end)

    async def report(self, key: bytes, event: Event) -> None:
        """Append an event of the group with this key; events of a former group are dropped."""
        if self._group is not None and self._group.key == key:
            await self.log.append(event)

    def stop(self, end: Ended) -> None:
        """End as `CANCELLED` or `PAUSED`, after a step or before the first one."""
        if self._requested != CANCELLED:
            self._requested = end
            self._interrupt()
            if end == CANCELLED and self._group is not None:
                # Workers may be waiting, for example for space on a full disk for their last checkpoint.
                asyncio.get_running_loop().call_later(CANCEL_PATIENCE, self._group.end)

    def resize(self, resources: ResourcesSpec) -> None:
        """Take a checkpoint and continue from it with another number of workers, or of CPUs for each."""
        if resources != self._resources:
            self._resources = resources
            self._interrupt()

    def _interrupt(self) -> None:
        self._interrupted.set()
        if self._group is not None:
            self._group.command(self._command())

    def _command(self) -> Command:
        if self._requested == CANCELLED:
            return Command.STOP
        return Command.STOP | Command.CHECKPOINT

    async def _train(self) -> Ended:
        assignment = self.assignment
        scaling = await asyncio.to_thread(scaling_of, self._spec, assignment.dataset)
        target_scaling = await asyncio.to_thread(target_scaling_of, self._spec, assignment.dataset)
        preparation = await asyncio.to_thread(preparation_of, self._spec, assignment.dataset)
        assignment = replace(assignment, scaling=scaling, target_scaling=target_scaling, preparation=preparation)
        left = assignment.restarts_left
        while True:
            end = await self._train_once(replace(assignment, reported_step=self.log.reported_step))
            if end is None:
                continue
            if end.outcome != "lost":
                return end
            if self._requested is not None:
                return self._requested  # no need to restart: resuming computes the lost steps again
            if not left:
                message = f"{end.reason}: {end.message}; max_restarts is {self._spec.max_restarts}"
                return Ended("failed", "too_many_restarts", message)
            left -= 1
            await self.log.append(Restarted(end.reason, end.message))

    async def _train_once(self, assignment: Assignment) -> Ended | None:
        """Train with one group of workers; None if another group is to continue."""
        checkpoint = await self._find_checkpoint(assignment)
        self._interrupted.clear()
        if self._requested is not None:
            return self._requested
        arithmetic = self._spec.training.arithmetic
        places = await self._unless_interrupted(self._placement.reserve(self._useful_resources(), arithmetic))
        if places is None:
            return self._requested
        spec = {**assignment.spec, "resources": self._resources.model_dump()}
        self._group = group = WorkerGroup(places, self._idle)
        try:
            end = await group.train(replace(assignment, spec=spec), checkpoint, self._supervisor)
        except Exception as error:  # noqa: BLE001  any error ends the attempt with an event
            meaning = self._meaning(error)
            if meaning.outcome == "failed":
                await group.wait_for_leader()
            if meaning.reason == "non_finite_loss":
                meaning = replace(meaning, message=f"{meaning.message}; {self._last_finite()}")
            group.end()
            # The node may be gone: its reservation looks valid until Ray notices.
            self._placement.release()
            return meaning
        group.keep()
        if end is End.REACHED:
            return self._requested or REACHED
        return ENDS.get(end, self._requested)

    def _useful_resources(self) -> ResourcesSpec:
        """The resources without the workers that would have no shard."""
        shards = self._spec.training.shards or 1
        return self._resources.model_copy(update={"workers": min(self._resources.workers, shards)})

    async def _find_checkpoint(self, assignment: Assignment) -> Path | None:
        if assignment.replay is not None:
            place = assignment.replay.checkpoint
            if place is not None and not place.is_dir():
                raise FileNotFoundError(f"checkpoint {place.name} of {assignment.replay.job} is no longer there")
            return place
        checkpoint, refused = await asyncio.to_thread(
            latest_whole, assignment.directory, assignment.job, assignment.computation_sha256
        )
        for message in refused:
            await self.log.append(Noted("checkpoint_refused", {"message": message}))
        return checkpoint

    async def _unless_interrupted(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for a coroutine; None if the user requests something else meanwhile."""
        waiting = [asyncio.ensure_future(work), asyncio.ensure_future(self._interrupted.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            future.cancel()
        return None if self._interrupted.is_set() else cast("T", waiting[0].result())

    def _meaning(self, error: Exception) -> Ended:
        cause = error.cause if isinstance(error, RayTaskError) else error  # the text of Ray's error has a traceback
        if isinstance(cause, OSError) and cause.errno in FULL:
            return Ended("failed", "disk_full", f"{text_of(cause)}: {DISK_FULL}")
        for kind, outcome, reason in MEANINGS:
            if isinstance(error, kind):
                message = WORKER_LOST if reason == "worker_lost" else text_of(cause)
                if kind is CheckpointError and self.assignment.replay is not None:
                    return Ended("failed", CHECKPOINT_CHANGED, message)  # it would be found again
                if kind is DatasetError:
                    message = f"dataset {self._spec.data.dataset!r}: {message}"
                return Ended(outcome, reason, message)
        log.error("the attempt ended with an unexpected error", exc_info=error)
        return Ended("failed", "internal_error", f"an error inside Gradfleet: {type(cause).__name__}")

    def _last_finite(self) -> str:
        checkpoint = latest(self.assignment.directory)  # checkpoints never hold parameters that are not finite
        if checkpoint is None:
            return "there is no earlier checkpoint"
        return f"the last finite checkpoint is of step {int(checkpoint.name)}"
