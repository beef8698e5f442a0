"""What happens to jobs, live: one look at the database, four times a second, serves everyone who watches."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from fastapi.sse import format_sse_event
from sqlalchemy import func, select

from service.jobs.events import list_events
from service.jobs.schemas import EventView, LiveView, ProgressView, latest_values
from service.jobs.states import TERMINAL, State
from service.store.models import Event, Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from service.store import Database

PERIOD = 0.25  # seconds between looks
PROGRESS_PERIOD = 0.5  # least seconds between two messages of progress
HEARTBEAT_PERIOD = 15.0  # a connection that says nothing for longer is cut by what lies between
HEARTBEAT = b": heartbeat\n\n"
PAGE = 1000  # most events of a job in one look
MOST_BEHIND = 2000  # messages that wait for a client that does not read; it can come back for them

log = logging.getLogger(__name__)


class News(NamedTuple):
    """What one look finds of a job: how it stands, its events with their ids, and whether these are its last."""

    progress: bytes
    events: list[tuple[int, bytes]]
    done: bool


class Watcher:
    """One stream: an async iterator of bytes, from the event after `cursor` on."""

    def __init__(self, job_id: str, cursor: int) -> None:
        self.job_id, self.cursor = job_id, cursor
        self._progress = b""
        self._progress_at = 0.0
        self._waiting: list[bytes] = []
        self._ended = False
        self._woken = asyncio.Event()

    def tell(self, news: News) -> None:
        """Pass on what is new to this one."""
        now = time.monotonic()
        if news.progress != self._progress and (news.done or now - self._progress_at >= PROGRESS_PERIOD):
            if self._waiting and self._waiting[-1] is self._progress:
                self._waiting.pop()  # nobody has read it, and it is out of date
            self._progress, self._progress_at = news.progress, now
            self._waiting.append(news.progress)
            self._woken.set()
        for number, message in news.events:
            if number > self.cursor:
                self.cursor = number
                self._waiting.append(message)
                self._woken.set()
        if news.done or len(self._waiting) > MOST_BEHIND:
            self.end()

    def end(self) -> None:
        """End the stream after what it was told so far."""
        self._ended = True
        self._woken.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What the client gets."""
        while self._waiting or not self._ended:
            if self._waiting:
                messages, self._waiting = self._waiting, []
                yield b"".join(messages)
                continue
            self._woken.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_PERIOD):
                    await self._woken.wait()
            except TimeoutError:
                yield HEARTBEAT


class EventStreams:
    """All streams of this process. They live in the server's event loop; `close` may be called in any thread."""

    def __init__(self, database: Database, most: int) -> None:
        self._database, self._most = database, most
        self._watchers: set[Watcher] = set()
        self._added = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def closed(self) -> bool:
        """Whether the service is stopping."""
        return self._closed

    @property
    def full(self) -> bool:
        """Whether there is no place for another one."""
        return len(self._watchers) >= self._most

    def add(self, watcher: Watcher) -> None:
        """Tell it what happens to its job, from the next look on."""
        self._watchers.add(watcher)
        self._added.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on(), name="event streams")

    def remove(self, watcher: Watcher) -> None:
        """Tell it no more."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End every stream soon, so that the server can stop."""
        self._closed = True

    async def _look_on(self) -> None:
        """Look at the watched jobs until nobody watches any more."""
        while self._watchers and not self._closed:
            self._added.clear()
            cursors: dict[str, int] = {}
            for watcher in self._watchers:
                cursors[watcher.job_id] = min(watcher.cursor, cursors.get(watcher.job_id, watcher.cursor))
            try:
                self._hand_out(cursors, await asyncio.to_thread(look, self._database, cursors))
            except Exception:  # whatever it was, those who watch want to be told the rest
                log.exception("the watched jobs could not be looked at; the event streams are late")
            try:
                async with asyncio.timeout(PERIOD):
                    await self._added.wait()  # who is new is not kept waiting
            except TimeoutError:
                pass
        for watcher in self._watchers:
            watcher.end()

    def _hand_out(self, asked: Mapping[str, int], found: Mapping[str, News]) -> None:
        for watcher in self._watchers:
            if watcher.job_id in found:
                watcher.tell(found[watcher.job_id])
            elif watcher.job_id in asked:
                watcher.end()  # the job has been deleted


def look(database: Database, cursors: Mapping[str, int]) -> dict[str, News]:
    """News of jobs that are there, in one snapshot; `cursors` has the last event that is known of each."""
    last = select(func.max(Event.id)).where(Event.job_id == Job.id).scalar_subquery()
    columns = Job.id, Job.state, Job.epoch, Job.step, Job.total_steps, Job.latest_metrics, last
    found: dict[str, News] = {}
    with database.reading() as session:
        for job_id, state, epoch, step, total_steps, latest, newest in session.execute(
            select(*columns).where(Job.id.in_(cursors))
        ).all():
            live = LiveView(
                state=State(state),
                progress=ProgressView(epoch=epoch, step=step, total_steps=total_steps),
                metrics=latest_values(latest),
            )
            progress = format_sse_event(event="progress", data_str=live.model_dump_json())
            events, more = [], False
            if newest is not None and newest > cursors[job_id]:
                rows, more = list_events(session, job_id, limit=PAGE, starting_after=cursors[job_id])
                events = [(row.id, _message(row)) for row in rows]
            found[job_id] = News(progress, events, state in TERMINAL and not more)
    return found


def _message(event: Event) -> bytes:
    view = EventView.model_validate(event)
    return format_sse_event(id=str(event.id), event=event.kind, data_str=view.model_dump_json())
