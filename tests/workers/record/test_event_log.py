from __future__ import annotations

import asyncio

import pytest

from workers.record import event_log
from workers.record.event_log import EventLog
from workers.record.events import Ended, Event, Progress

END = Ended("lost", "worker_lost")


@pytest.fixture
def short_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "POLL_WAIT", 0.01)


@pytest.mark.usefixtures("short_poll")
def test_a_poll_confirms_the_events_up_to_its_number() -> None:
    async def scenario() -> None:
        log = EventLog()
        events: list[Event] = [Progress(0, step, {}) for step in range(1, 6)]
        assert await log.poll(0) == []
        for event in events[:3]:
            await log.append(event)
        numbered = list(enumerate(events, start=1))
        assert await log.poll(0) == numbered[:3]
        assert await log.poll(0) == numbered[:3]
        assert await log.poll(2) == numbered[2:3]
        # Confirmed events are deleted: a poll with a smaller number returns the remaining ones.
        assert await log.poll(0) == numbered[2:3]
        await log.append(events[3])
        assert await log.poll(2) == numbered[2:4]
        assert await log.poll(4) == []
        assert await log.poll(4) == []
        await log.append(events[4])
        assert await log.poll(4) == numbered[4:]

    asyncio.run(scenario())


def test_events_after_the_end_are_dropped() -> None:
    async def scenario() -> None:
        log = EventLog()
        assert not log.ended
        await log.append(END)
        assert log.ended
        await log.append(Progress(0, 1, {}))
        await log.append(Ended("succeeded", "completed"))
        assert await log.poll(0) == [(1, END)]
        assert log.reported_step == 0

    asyncio.run(scenario())


def test_a_poll_returns_a_new_event_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "POLL_WAIT", 100.0)

    async def scenario() -> None:
        log = EventLog()
        polls = [asyncio.create_task(log.poll(0)) for _ in range(2)]
        await asyncio.sleep(0)
        event = Progress(0, 1, {})
        await log.append(event)
        assert await asyncio.gather(*polls) == [[(1, event)], [(1, event)]]

    asyncio.run(asyncio.wait_for(scenario(), 50))


def test_the_last_reported_step() -> None:
    async def scenario() -> None:
        log = EventLog(7)
        assert log.reported_step == 7
        # Steps that are computed again after a fault do not decrease it.
        for step, reported in ((3, 7), (7, 7), (9, 9), (8, 9)):
            await log.append(Progress(0, step, {}))
            assert log.reported_step == reported

    asyncio.run(scenario())


def test_a_poll_of_many_events_returns_the_first_ones() -> None:
    """However long the log was not polled, an answer is small, and the next polls return the rest."""

    async def scenario() -> None:
        log = EventLog()
        events: list[Event] = [Progress(0, step, {}) for step in range(1, 1001)]
        for event in events:
            await log.append(event)
        received: list[tuple[int, Event]] = []
        polls = 0
        while len(received) < len(events):
            answer = await log.poll(len(received))
            assert len(answer) <= 100
            received += answer
            polls += 1
        assert received == list(enumerate(events, 1))
        assert polls == 10

    asyncio.run(scenario())
