from __future__ import annotations

import asyncio

import pytest

from workers.record import event_log
from workers.record.event_log import EventLog
from workers.record.events import Ended, Event, Progress

END = Ended("lost", "worker_lost")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "POLL_WAIT", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_poll_confirms_what_it_names() -> None:
    async def story() -> None:
        log = EventLog()
        told: list[Event] = [Progress(0, step, {}) for step in range(1, 6)]
        assert await log.poll(0) == []
        for event in told[:3]:
            await log.append(event)
        numbered = list(enumerate(told, start=1))
        assert await log.poll(0) == numbered[:3]
        assert await log.poll(0) == numbered[:3]
        assert await log.poll(2) == numbered[2:3]
        # Confirmed is forgotten: who asks for less again gets what is left.
        assert await log.poll(0) == numbered[2:3]
        await log.append(told[3])
        assert await log.poll(2) == numbered[2:4]
        assert await log.poll(4) == []
        assert await log.poll(4) == []
        await log.append(told[4])
        assert await log.poll(4) == numbered[4:]

    asyncio.run(story())


def test_nothing_comes_after_the_end() -> None:
    async def story() -> None:
        log = EventLog()
        assert not log.ended
        await log.append(END)
        assert log.ended
        await log.append(Progress(0, 1, {}))
        await log.append(Ended("succeeded", "completed"))
        assert await log.poll(0) == [(1, END)]
        assert log.reported_step == 0

    asyncio.run(story())


def test_a_poll_hears_news_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "POLL_WAIT", 100.0)

    async def story() -> None:
        log = EventLog()
        polls = [asyncio.create_task(log.poll(0)) for _ in range(2)]
        await asyncio.sleep(0)
        news = Progress(0, 1, {})
        await log.append(news)
        assert await asyncio.gather(*polls) == [[(1, news)], [(1, news)]]

    asyncio.run(asyncio.wait_for(story(), 50))


def test_the_last_step_whose_points_have_come() -> None:
    async def story() -> None:
        log = EventLog(7)
        assert log.reported_step == 7
        # Computed again after a fault: what has come has come.
        for step, reported in ((3, 7), (7, 7), (9, 9), (8, 9)):
            await log.append(Progress(0, step, {}))
            assert log.reported_step == reported

    asyncio.run(story())
