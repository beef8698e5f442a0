"""A group of workers that train together: it is started, watched and ended as one."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from workers.cluster.placement import Place
from workers.cluster.worker import Worker
from workers.exchange.control import Command
from workers.exchange.messages import KEY_BYTES, LEADER, Membership
from workers.machine.fingerprint import check_equal
from workers.training.assignment import Assignment, End

PING_INTERVAL = 2.0  # seconds
LEADER_WAIT = 1.0  # seconds
SILENCE = 15.0  # seconds after which a worker that does not answer counts as lost
STARTING = 60.0  # seconds that a new process may take to answer, on a busy machine
MOST_IDLE = 2  # workers

# Mypy sees the class, not the actor class that Ray makes of it.
_worker: Any = Worker


class WorkerSilentError(TimeoutError):
    """A worker's process has not answered for too long: it hangs, or its machine cannot be reached."""


class IdleWorkers:
    """Workers without a group, by their place.

    A new process takes at least half a second to start, and seconds with variables of its own; an idle one takes none.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[Place, Any]] = []

    def warm_up(self, node: str) -> None:
        """Start idle workers on a node, at the level of arithmetic that its processes usually have."""
        place = Place(node, {})
        while len(self._idle) < MOST_IDLE:
            self._idle.append((place, _start(place)))

    async def take(self, place: Place) -> Any:
        """A worker at a place: an idle one that answers, or a new one."""
        # The last one first: its data is more likely to be in memory.
        for idle in [each for each in reversed(self._idle) if each[0] == place]:
            self._idle.remove(idle)
            try:
                await asyncio.wait_for(idle[1].ping.remote(), SILENCE)
            except (RayError, TimeoutError):
                ray.kill(idle[1])
            else:
                return idle[1]
        return _start(place)

    def give_back(self, place: Place, worker: Any) -> None:
        """Return a worker to the pool."""
        self._idle.append((place, worker))

    def cool_down(self) -> None:
        """Kill the idle workers beyond `MOST_IDLE`."""
        for _, worker in self._idle[:-MOST_IDLE]:
            ray.kill(worker)
        del self._idle[:-MOST_IDLE]


def _start(place: Place) -> Any:
    # Outside of the reservation, a process is not killed when the reservation is removed.
    outside = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False)}
    # Without variables of its own, Ray takes a process that is ready.
    variables = {"runtime_env": {"env_vars": place.environment}} if place.environment else {}
    return _worker.options(**(place.inside or outside), **variables).remote()


class WorkerGroup:
    """One worker on each of the given places. Its workers authenticate to each other with `key`."""

    def __init__(self, places: Sequence[Place], idle: IdleWorkers) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self._places, self._idle = places, idle
        self._workers: list[Any] = []
        self._joined = False
        self._command = Command.NONE
        self._training: list[asyncio.Future[End]] = []

    async def train(self, assignment: Assignment, checkpoint: Path | None, supervisor: Any) -> End:
        """Train from a checkpoint, or from the beginning, until training ends.

        Raises the errors of workers, Ray's errors if a worker is lost, `WorkerSilentError`, and `FingerprintError` if
        the workers' bits may differ.
        """
        arithmetic = assignment.spec["training"]["arithmetic"]
        await self._start_all()
        count = len(self._workers)
        memberships = [Membership(rank, count, assignment.attempt, self.key) for rank in range(count)]
        joined = await self._watched(
            [
                worker.join.remote(membership, assignment.dataset, arithmetic)
                for worker, membership in zip(self._workers, memberships, strict=True)
            ],
            STARTING,
        )
        check_equal([fingerprint for _, fingerprint in joined])
        addresses = [address for address, _ in joined]
        self._joined = True
        self.command(self._command)
        self._training = [
            asyncio.ensure_future(worker.train.remote(assignment, addresses, checkpoint, supervisor))
            for worker in self._workers
        ]
        ends: list[End] = await self._watched(self._training, SILENCE)
        return ends[LEADER]

    async def _start_all(self) -> None:
        for place in self._places:
            self._workers.append(_start(place) if place.inside else await self._idle.take(place))

    async def _watched(self, work: Sequence[Awaitable[Any]], patience: float) -> list[Any]:
        """Wait for calls to all workers; raises `WorkerSilentError` once one is silent for `patience` seconds."""
        together = asyncio.gather(*work)
        together.add_done_callback(lambda done: done.cancelled() or done.exception())  # so that it counts as retrieved
        watches = [asyncio.ensure_future(self._watch(rank, patience)) for rank in range(len(self._workers))]
        all_of_it: list[asyncio.Future[Any]] = [together, *watches]
        await asyncio.wait(all_of_it, return_when=asyncio.FIRST_COMPLETED)
        silent = [watch for watch in watches if watch.done()]
        for watch in watches:
            watch.cancel()
        if silent and not together.done():
            silent[0].result()  # raises
        return list(together.result())

    async def _watch(self, rank: int, patience: float) -> None:
        """Raise `WorkerSilentError` once a worker is silent."""
        answered = time.monotonic()
        while time.monotonic() - answered <= patience:
            await asyncio.sleep(PING_INTERVAL)
            try:
                await asyncio.wait_for(self._workers[rank].ping.remote(), patience)
            except (RayError, TimeoutError):
                continue  # it may be unreachable for a moment only
            answered = time.monotonic()
        raise WorkerSilentError(f"worker {rank} has not answered for {patience:g} s")

    def command(self, command: Command) -> None:
        """Pass on a command, which all workers follow after the same step."""
        self._command |= command
        if self._joined and self._workers and self._command:
            self._workers[LEADER].command.remote(self.key, self._command)

    async def wait_for_leader(self) -> None:
        """Wait a moment for the leader's last reports: another worker may have failed first."""
        if self._training:
            await asyncio.wait(self._training[:1], timeout=LEADER_WAIT)

    def keep(self) -> None:
        """Return the workers to the pool, and kill those that run inside of the reservation."""
        for place, worker in zip(self._places, self._workers, strict=True):
            if place.inside:
                ray.kill(worker)
            else:
                self._idle.give_back(place, worker)
        self._workers = []

    def end(self) -> None:
        """Kill the workers that were not returned to the pool."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
