"""Requests that read files: how many at the same time, and when their processes are stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from service.datasets.tasks.runner import TaskRunner
from service.errors import BadRequestError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.errors import ServiceError
    from service.settings import Settings

# Each takes a CPU, and a registration the disk; requests of other kinds need threads as well.
REGISTRATIONS_AT_ONCE = 4
PREVIEWS_AT_ONCE = 4

Result = TypeVar("Result")


class TaskRunners:
    """The runners of this process's requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: set[TaskRunner] = set()
        self._closed: ServiceError | None = None
        self.registrations = asyncio.Semaphore(REGISTRATIONS_AT_ONCE)
        self.previews = asyncio.Semaphore(PREVIEWS_AT_ONCE)

    def check_room(self) -> None:
        """Raise UnavailableError while the maximum number of registrations is running."""
        if self.registrations.locked():
            raise UnavailableError(
                f"{REGISTRATIONS_AT_ONCE} datasets are being registered, the maximum at the same time; try again."
            )

    async def run(self, request: Request, work: Callable[[TaskRunner], Result]) -> Result:
        """Run `work` in a thread. Its runner is stopped when the client disconnects or the service stops."""
        runner = TaskRunner(self._settings)
        if self._closed is not None:
            runner.stop(self._closed)
        self._running.add(runner)
        working = asyncio.ensure_future(run_in_threadpool(work, runner))
        leaving = asyncio.ensure_future(_until_disconnected(request))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                runner.stop(BadRequestError("The connection was closed; nothing was registered."))
            return await working
        finally:
            # Also when this request is cancelled, since the service does not wait longer for it.
            runner.stop(UnavailableError("The request was cancelled."))
            leaving.cancel()
            await asyncio.wait({working})
            self._running.discard(runner)

    def close(self) -> None:
        """Stop all runners, and those of later requests. Returns immediately, on any thread."""
        self._closed = UnavailableError("The service is stopping; nothing was registered.")
        for runner in list(self._running):
            runner.stop(self._closed)


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def runners_of(request: Request) -> TaskRunners:
    """The runners of the application; for FastAPI."""
    return cast("TaskRunners", request.app.state.runners)
