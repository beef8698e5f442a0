"""The workers that train together: started together, watched, and ended together."""

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
from workers.exchange.control import Order
from workers.exchange.zeromq import KEY_BYTES, LEADER, Membership
from workers.training.trainer import Assignment, End

PING_INTERVAL = 2.0  # seconds
LAST_WORDS = 1.0  # seconds
SILENCE = 15.0  # seconds after which a worker that answers nothing is given up
STARTING = 60.0  # seconds that a new process may need to answer at all, on a busy machine
MOST_IDLE = 2  # workers that wait for their next group

# Mypy sees the class and not the actor class that Ray made of it.
_worker: Any = Worker


class WorkerSilentError(TimeoutError):
    """A worker's process has not answered for too long: it hangs, or its machine can not be reached."""


class IdleWorkers:
    """Workers without a group, by node. A new process takes half a second and longer; one that waits takes none."""

    def __init__(self) -> None:
        self._idle: list[tuple[str, Any]] = []

    def warm_up(self, node: str) -> None:
        """Have workers ready on a node."""
        while len(self._idle) < MOST_IDLE:
            self._idle.append((node, _start(node)))

    async def take(self, node: str) -> Any:
        """A worker on a node: one that waits and answers, or a new one."""
        # The last one first: what it has just used is still in memory.
        for place in [each for each in reversed(self._idle) if each[0] == node]:
            self._idle.remove(place)
            try:
                await asyncio.wait_for(place[1].ping.remote(), SILENCE)
            except (RayError, TimeoutError):
                ray.kill(place[1])
            else:
                return place[1]
        return _start(node)

    def give_back(self, node: str, worker: Any) -> None:
        """Keep a worker for its next group."""
        self._idle.append((node, worker))

    def cool_down(self) -> None:
        """End the workers that are more than need to wait."""
        for _, worker in self._idle[:-MOST_IDLE]:
            ray.kill(worker)
        del self._idle[:-MOST_IDLE]


def _start(node: str) -> Any:
    # The room is reserved by a placement group, which would take the process with it.
    return _worker.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()


class WorkerGroup:
    """One worker on each of the given places. `key` is what they know each other by."""

    def __init__(self, places: Sequence[Place], idle: IdleWorkers) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self._places, self._idle = places, idle
        self._workers: list[Any] = []
        self._joined = False
        self._orders = Order.NONE
        self._training: list[asyncio.Future[End]] = []

    async def train(self, assignment: Assignment, checkpoint: Path | None, supervisor: Any) -> End:
        """Train from a checkpoint, or from the beginning, to an end.

        Raises what a worker raises, Ray's errors where one is lost, and `WorkerSilentError`.
        """
        await self._start_all()
        count = len(self._workers)
        memberships = [Membership(rank, count, assignment.attempt, self.key) for rank in range(count)]
        addresses = await self._watched(
            [worker.join.remote(membership) for worker, membership in zip(self._workers, memberships, strict=True)],
            STARTING,
        )
        self._joined = True
        self.order(self._orders)
        self._training = [
            asyncio.ensure_future(worker.train.remote(assignment, addresses, checkpoint, supervisor))
            for worker in self._workers
        ]
        ends: list[End] = await self._watched(self._training, SILENCE)
        return ends[LEADER]

    async def _start_all(self) -> None:
        for place in self._places:
            inside = _worker.options(**place.inside).remote() if place.inside else None
            self._workers.append(inside or await self._idle.take(place.node))

    async def _watched(self, work: Sequence[Awaitable[Any]], patience: float) -> list[Any]:
        """Wait for work of all workers, as long as none of them is silent for longer than `patience` seconds."""
        together = asyncio.gather(*work)
        together.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody has looked at it
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
        heard = time.monotonic()
        while time.monotonic() - heard <= patience:
            await asyncio.sleep(PING_INTERVAL)
            try:
                await asyncio.wait_for(self._workers[rank].ping.remote(), patience)
            except (RayError, TimeoutError):
                continue  # unreachable is not dead: the clock goes on
            heard = time.monotonic()
        raise WorkerSilentError(f"worker {rank} has not answered for {patience:g} s")

    def order(self, order: Order) -> None:
        """Pass on an order, which the workers follow after a step that they agree on."""
        self._orders |= order
        if self._joined and self._workers and self._orders:
            self._workers[LEADER].order.remote(self.key, self._orders)

    async def last_words(self) -> None:
        """Give the leader a moment to tell what it knows: another worker may have failed first."""
        if self._training:
            await asyncio.wait(self._training[:1], timeout=LAST_WORDS)

    def keep(self) -> None:
        """Let the workers wait for their next group, but for those that hold on to what was reserved."""
        for place, worker in zip(self._places, self._workers, strict=True):
            if place.inside:
                ray.kill(worker)
            else:
                self._idle.give_back(place.node, worker)
        self._workers = []

    def end(self) -> None:
        """End the workers, whatever they do, but for those that wait for another group already."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
