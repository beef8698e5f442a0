"""Live event streams: the database is queried four times a second for all streams together."""

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

PERIOD = 0.25  # seconds between queries
PROGRESS_PERIOD = 0.5  # minimum seconds between two messages of progress
HEARTBEAT_PERIOD = 15.0  # proxies close connections that are silent for longer
HEARTBEAT = b": heartbeat\n\n"
PAGE = 1000  # maximum number of events of a job per query
MOST_BEHIND = 2000  # pending messages of a client that does not read; it can reconnect to get the rest

log = logging.getLogger(__name__)


class News(NamedTuple):
    """What a query finds about a job: its progress, its new events with their ids, and whether these are the last."""

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

    def receive(self, news: News) -> None:
        """Queue the messages that this stream does not have yet."""
        now = time.monotonic()
        if news.progress != self._progress and (news.done or now - self._progress_at >= PROGRESS_PERIOD):
            if self._waiting and self._waiting[-1] is self._progress:
                self._waiting.pop()  # not sent yet, and out of date
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
        """End the stream after the queued messages."""
        self._ended = True
        self._woken.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The messages for the client."""
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
    """All streams of this process. They run in the server's event loop; `close` may be called in any thread."""

    def __init__(self, database: Database, most: int) -> None:
        self._database, self._most = database, most
        self._watchers: set[Watcher] = set()
        self._added = asyncio.Event()
        self._querying: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def closed(self) -> bool:
        """Whether the service is stopping."""
        return self._closed

    @property
    def full(self) -> bool:
        """Whether the maximum number of streams is open."""
        return len(self._watchers) >= self._most

    def add(self, watcher: Watcher) -> None:
        """Add a stream, from the next query on."""
        self._watchers.add(watcher)
        self._added.set()
        if self._querying is None or self._querying.done():
            self._querying = asyncio.create_task(self._query_jobs(), name="event streams")

    def remove(self, watcher: Watcher) -> None:
        """Remove a stream."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End all streams soon, so that the server can stop."""
        self._closed = True

    async def _query_jobs(self) -> None:
        """Query the watched jobs until no stream is open."""
        while self._watchers and not self._closed:
            self._added.clear()
            cursors: dict[str, int] = {}
            for watcher in self._watchers:
                cursors[watcher.job_id] = min(watcher.cursor, cursors.get(watcher.job_id, watcher.cursor))
            try:
                self._distribute(cursors, await asyncio.to_thread(look, self._database, cursors))
            except Exception:  # the streams must continue after any error
                log.exception("the watched jobs could not be queried; the event streams are late")
            try:
                async with asyncio.timeout(PERIOD):
                    await self._added.wait()  # a new stream does not wait
            except TimeoutError:
                pass
        for watcher in self._watchers:
            watcher.end()

    def _distribute(self, cursors: Mapping[str, int], found: Mapping[str, News]) -> None:
        for watcher in self._watchers:
            since = cursors.get(watcher.job_id)
            if since is None or watcher.cursor < since:
                continue  # added during the query, which did not ask for all of its events; the next one does
            if watcher.job_id in found:
                watcher.receive(found[watcher.job_id])
            else:
                watcher.end()  # the job has been deleted


def look(database: Database, cursors: Mapping[str, int]) -> dict[str, News]:
    """News of the jobs that exist, in one snapshot; `cursors` has the last known event of each."""
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
