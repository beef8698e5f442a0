"""The events of an attempt, in order, kept until the receiver has stored them."""

from __future__ import annotations

import asyncio
from collections import deque

from workers.record.events import Ended, Event, Progress
from workers.record.pieces import first_piece

POLL_WAIT = 1.0  # seconds that a poll waits for an event


class EventLog:
    """Events numbered from 1. `reported_step` is the last step whose points were appended."""

    def __init__(self, reported_step: int = 0) -> None:
        self.reported_step = reported_step
        self.ended = False
        self._events: deque[tuple[int, Event]] = deque()
        self._last = 0
        self._changed = asyncio.Condition()

    async def append(self, event: Event) -> None:
        """Append an event; events after the end are dropped."""
        async with self._changed:
            if self.ended:
                return
            self.ended = isinstance(event, Ended)
            if isinstance(event, Progress):
                self.reported_step = max(self.reported_step, event.step)
            self._last += 1
            self._events.append((self._last, event))
            self._changed.notify_all()

    async def poll(self, after: int) -> list[tuple[int, Event]]:
        """Return the events with numbers above `after` as soon as there are any, or none after `POLL_WAIT` seconds.

        Of many events, these are the first ones. Events up to `after` are deleted: the caller has stored them.
        """
        async with self._changed:
            while self._events and self._events[0][0] <= after:
                self._events.popleft()
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: bool(self._events)), POLL_WAIT)
            except TimeoutError:
                return []
            return first_piece(self._events)
