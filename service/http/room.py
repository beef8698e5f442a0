"""How many requests of an expensive kind a process computes at the same time.

Each of them takes a CPU, memory and a connection to the database, so others wait until a place is free. While they
wait they take no thread and no connection.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from service.errors import BadRequestError, ServiceError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pydantic import BaseModel

WAIT = 5.0  # seconds until a request that waits for a place is refused
PIECE_BYTES = 64 * 1024  # smaller pieces of a response are joined

Result = TypeVar("Result")


class Stop:
    """Tells the thread of a request that its result is no longer wanted."""

    def __init__(self) -> None:
        self._error: ServiceError | None = None

    def set(self, error: ServiceError) -> None:
        """Let `check` raise an error from now on."""
        self._error = error

    def check(self) -> None:
        """Raise an error if the work should end; to be called often."""
        if self._error is not None:
            raise self._error


class Room:
    """Places for `most` requests at the same time; `what` they compute is named to those that find no place."""

    def __init__(self, most: int, what: str) -> None:
        self.most, self._what = most, what
        self._places = asyncio.Semaphore(most)
        self._working: set[Stop] = set()
        self._closed: ServiceError | None = None

    async def run(self, request: Request, work: Callable[[Stop], Result]) -> Result:
        """Run `work` in a thread, in a place; it is told to stop when the client disconnects or the service stops.

        Raises UnavailableError if no place becomes free within `WAIT` seconds.
        """
        async with self._place(WAIT):
            stop = Stop()
            if self._closed is not None:
                stop.set(self._closed)
            if await request.is_disconnected():
                stop.set(BadRequestError("The connection was closed."))
            stop.check()
            self._working.add(stop)
            working = asyncio.ensure_future(run_in_threadpool(work, stop))
            leaving = asyncio.ensure_future(_until_disconnected(request))
            try:
                await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    stop.set(BadRequestError("The connection was closed."))
                return await working
            finally:
                # Also when this request is cancelled, since the service does not wait longer for it.
                stop.set(UnavailableError("The request was cancelled."))
                leaving.cancel()
                await asyncio.wait({working})
                self._working.discard(stop)

    async def respond(self, request: Request, make: Callable[[], BaseModel]) -> Response:
        """The JSON of a model, as by `run`: it is written in the thread, too, since a large one takes long."""

        def written(stop: Stop) -> bytes:
            view = make()
            stop.check()
            return view.model_dump_json().encode()

        return Response(await self.run(request, written), media_type="application/json")

    async def stream(self, request: Request, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces of a response; each is made in a place, which is free again while the client reads the piece.

        The first one is made before this returns, as by `run`, so that its errors can be the response.
        """
        first = await self.run(request, lambda _: _joined(pieces))

        async def all_pieces() -> AsyncIterator[bytes]:
            piece = first
            while piece:
                yield piece
                async with self._place(None):
                    piece = await run_in_threadpool(_joined, pieces)

        return all_pieces()

    def close(self) -> None:
        """Stop all work, and that of later requests. Returns immediately, on any thread."""
        self._closed = UnavailableError("The service is stopping; try again.")
        for stop in list(self._working):
            stop.set(self._closed)

    @asynccontextmanager
    async def _place(self, wait: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(wait):
                await self._places.acquire()
        except TimeoutError:
            message = f"The service already computes {self.most} {self._what}, its limit; try again."
            raise UnavailableError(message) from None
        try:
            yield
        finally:
            self._places.release()


class Rooms:
    """The rooms of a process."""

    def __init__(self) -> None:
        self.metrics = Room(2, "responses with metrics")
        self.lists = Room(2, "lists, comparisons or certificates")
        self.sweeps = Room(1, "new sweeps")
        self.checks = Room(2, "checks of jobs")
        self.downloads = Room(2, "files of jobs")

    def close(self) -> None:
        """Stop all work in them."""
        for room in (self.metrics, self.lists, self.sweeps, self.checks, self.downloads):
            room.close()


async def _rooms(request: Request) -> Rooms:  # FastAPI would run a plain function in a thread
    return cast("Rooms", request.app.state.rooms)


RoomsDependency = Annotated[Rooms, Depends(_rooms)]


def _joined(pieces: Iterator[bytes]) -> bytes:
    """The next pieces, joined; empty after the last one."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
        if len(joined) >= PIECE_BYTES:
            break
    return bytes(joined)


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
