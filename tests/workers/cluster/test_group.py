"""Watching a group of workers, with fake actors."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ray.exceptions import ActorUnavailableError

from workers.cluster import group
from workers.cluster.group import IdleWorkers, WorkerGroup, WorkerSilentError
from workers.cluster.placement import Place
from workers.training.assignment import End

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class FakeActor:
    """An actor whose `ping.remote()` calls the given function."""

    def __init__(self, answer: Callable[[], Awaitable[int]]) -> None:
        self.ping, self.remote = self, answer


async def at_once() -> int:
    return 1


async def never() -> int:
    return await asyncio.Future()


async def unreachable() -> int:
    raise ActorUnavailableError("a moment", None)


@pytest.fixture(autouse=True)
def short_ping_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "PING_INTERVAL", 0.001)


async def watched(answers: list[Callable[[], Awaitable[int]]], work: Awaitable[Any]) -> list[Any]:
    workers = WorkerGroup([], IdleWorkers())
    workers._workers = [FakeActor(answer) for answer in answers]
    return await workers._watched([work], 0.2)


@pytest.mark.parametrize("silent", [never, unreachable])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_silent_worker_is_named(silent: Callable[[], Awaitable[int]], rank: int) -> None:
    answers = [at_once, at_once, at_once]
    answers[rank] = silent
    with pytest.raises(WorkerSilentError, match=f"^worker {rank} has not answered for 0.2 s$"):
        asyncio.run(watched(answers, never()))


def test_a_worker_that_is_briefly_unreachable_is_not_silent() -> None:
    """In total it is unreachable for longer than the limit, but never without interruption."""
    pings = 0

    async def sometimes() -> int:
        nonlocal pings
        pings += 1
        return await (unreachable() if pings % 20 else at_once())

    async def work() -> str:
        while pings < 400:
            await asyncio.sleep(0.001)
        return "done"

    assert asyncio.run(watched([sometimes, at_once], work())) == ["done"]


def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        asyncio.run(watched([at_once, never], fail()))


class SlowStart:
    """An actor whose process starts slowly. Before it has started, it answers no call."""

    def __init__(self, seconds: float) -> None:
        self._started, self._seconds = asyncio.Event(), seconds
        self.ping, self.join, self.train, self.command = (
            Method(self, each) for each in (1, ("tcp://here", {}), End.COMPLETED, None)
        )

    async def answer(self, value: Any) -> Any:
        asyncio.get_running_loop().call_later(self._seconds, self._started.set)
        await self._started.wait()
        return value


class Method:
    def __init__(self, actor: SlowStart, value: Any) -> None:
        self._actor, self._value = actor, value

    def remote(self, *_: Any) -> Any:
        return asyncio.ensure_future(self._actor.answer(self._value))


def test_a_process_may_take_longer_to_start_than_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "SILENCE", 0.05)

    async def train() -> End:
        async def slow(_: Place) -> SlowStart:
            return SlowStart(0.5)

        idle = IdleWorkers()
        monkeypatch.setattr(idle, "take", slow)
        given: Any = SimpleNamespace(attempt=1, dataset=None, spec={"training": {"arithmetic": None}})
        return await WorkerGroup([Place("here", {})], idle).train(given, None, None)

    assert asyncio.run(train()) is End.COMPLETED
