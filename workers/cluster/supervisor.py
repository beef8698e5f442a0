"""The supervisor: a detached Ray actor that runs one attempt of a job after another and keeps workers ready."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayError

from workers.cluster.group import IdleWorkers
from workers.cluster.placement import Placement
from workers.cluster.supervision import CANCELLED, PAUSED, Supervision
from workers.record.events import Ended

if TYPE_CHECKING:
    from workers.job.spec import ResourcesSpec
    from workers.record.events import Event
    from workers.training.assignment import Assignment

HOLD = 2.0  # seconds for which workers and their reservation are kept for the next attempt


log = logging.getLogger(__name__)


class Supervisor:
    """The actor. A call that names an attempt other than the current one changes nothing."""

    def __init__(self) -> None:
        context = ray.get_runtime_context()
        self._idle, self._placement = IdleWorkers(), Placement(context.get_actor_name() or "")
        self._current: Supervision | None = None
        self._running: asyncio.Task[None] | None = None
        self._idle.warm_up(context.get_node_id())

    async def ready(self) -> bool:
        """Whether no attempt is running."""
        return self._current is None or self._current.log.ended

    async def begin(self, assignment: Assignment) -> None:
        """Begin an attempt. Raises RuntimeError while another one is running."""
        if not await self.ready():
            raise RuntimeError("this supervisor has an attempt that has not ended")
        itself = ray.get_runtime_context().current_actor
        self._current = Supervision(assignment, self._idle, self._placement, itself)
        self._running = asyncio.create_task(self._run(self._current))

    async def _run(self, supervision: Supervision) -> None:
        await supervision.run()
        asyncio.get_running_loop().call_later(HOLD, self._release, supervision)

    def _release(self, supervision: Supervision) -> None:
        if self._current is supervision:
            try:
                self._placement.release()
            except RayError:  # an idle supervisor must not keep resources that others need
                log.exception("the reservation could not be removed; trying again")
                asyncio.get_running_loop().call_later(HOLD, self._release, supervision)
            self._idle.cool_down()

    async def holds(self, job: str, attempt: int) -> bool:
        """Whether an attempt is the last one that this supervisor has begun."""
        if self._current is None:
            return False
        assignment = self._current.assignment
        return (assignment.job, assignment.attempt) == (job, attempt)

    async def poll(self, job: str, attempt: int, after: int) -> list[tuple[int, Event]] | None:
        """Events of an attempt; see `EventLog.poll`. None if it is not the current attempt."""
        current = self._current
        return await current.log.poll(after) if current and await self.holds(job, attempt) else None

    async def report(self, key: bytes, event: Event) -> None:
        """Append an event of the group of workers with this key."""
        if self._current is not None:
            await self._current.report(key, event)

    async def cancel(self, job: str, attempt: int) -> None:
        """Stop after a step, the same for all workers, or before the first one."""
        await self._stop(job, attempt, CANCELLED)

    async def pause(self, job: str, attempt: int) -> None:
        """Stop with a checkpoint; see `cancel`."""
        await self._stop(job, attempt, PAUSED)

    async def _stop(self, job: str, attempt: int, end: Ended) -> None:
        if self._current is not None and await self.holds(job, attempt):
            self._current.stop(end)

    async def resize(self, job: str, attempt: int, resources: ResourcesSpec) -> None:
        """Continue with other resources."""
        if self._current is not None and await self.holds(job, attempt):
            self._current.resize(resources)
