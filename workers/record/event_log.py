"""The events of an attempt, in order, until whoever listens has them safe."""

from __future__ import annotations

import asyncio
from collections import deque

from workers.record.events import Ended, Event, Progress

POLL_WAIT = 1.0  # seconds that a poll waits for news


class EventLog:
    """Numbered events, from 1. `reported_step` is the last step whose points have come."""

    def __init__(self, reported_step: int = 0) -> None:
        self.reported_step = reported_step
        self.ended = False
        self._events: deque[tuple[int, Event]] = deque()
        self._last = 0
        self._news = asyncio.Condition()

    async def append(self, event: Event) -> None:
        """Append an event; what comes after the end is dropped."""
        async with self._news:
            if self.ended:
                return
            self.ended = isinstance(event, Ended)
            if isinstance(event, Progress):
                self.reported_step = max(self.reported_step, event.step)
            self._last += 1
            self._events.append((self._last, event))
            self._news.notify_all()

    async def poll(self, after: int) -> list[tuple[int, Event]]:
        """Events with numbers above `after`, as soon as there are any; none when `POLL_WAIT` brings none.

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
