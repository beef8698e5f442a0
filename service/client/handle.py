"""Base class of jobs and sweeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from service.client.transport import segment
from service.client.views import JobData, SweepData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client.stream import Streams
    from service.client.transport import Transport

Data = TypeVar("Data", JobData, SweepData)


class Handle(Generic[Data]):
    """A job or sweep as the API last returned it; `refresh()` fetches it again.

    `data` is the API's answer, and `handle["field"]` one of its fields, even one that this client does not know.
    """

    COLLECTION: ClassVar[str]  # path of all jobs or sweeps
    TERMINAL: ClassVar[frozenset[str]]  # states that never change again

    def __init__(self, transport: Transport, streams: Streams, data: Data) -> None:
        self.data: Data = data
        self._transport = transport
        self._streams = streams

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name!r} {self.data['state']}>"

    def __getitem__(self, field: str) -> Any:
        return dict(self.data)[field]

    @property
    def id(self) -> str:
        """Id: job_... or sweep_..."""
        return self.data["id"]

    @property
    def name(self) -> str:
        """Name."""
        return self.data["name"]

    @property
    def state(self) -> str:
        """State.

        Jobs: queued, starting, running, pausing, paused, cancelling, succeeded, failed or cancelled. Sweeps: queued,
        running, paused, succeeded, failed, cancelled, or empty (all its jobs have been deleted).
        """
        return self.data["state"]

    @property
    def ended(self) -> bool:
        """Whether the job, or every job of the sweep, has succeeded, failed or been cancelled."""
        return self.state in self.TERMINAL

    def cancel(self) -> Self:
        """Cancel the job, or all jobs of the sweep: at their next step if they are running, otherwise at once."""
        return self._act("/cancel")

    def delete(self) -> None:
        """Delete the job, or the sweep with all its jobs, and everything that belongs to them. They must have ended."""
        self._transport.call("DELETE", self._path())

    def refresh(self) -> Self:
        """Fetch the current state."""
        return self._update(self._transport.fetch("state", "GET", self._path()))

    def _updates(self, deadline: float | None) -> Iterator[None]:
        raise NotImplementedError

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self._updates(deadline):
            if not self.ended and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{type(self).__name__.lower()} {self.id} is {self.state} after {timeout:g} s")

    def _refresh_within(self, deadline: float | None) -> None:
        left = float("inf") if deadline is None else deadline - time.monotonic()
        patience = min(self._transport.patience, left)
        self._update(self._transport.fetch("state", "GET", self._path(), patience=patience))

    def _act(self, suffix: str) -> Self:
        return self._update(self._transport.fetch("state", "POST", self._path(suffix)))

    def _update(self, data: Data) -> Self:
        self.data = data
        return self

    def _path(self, suffix: str = "") -> str:
        return f"{self.COLLECTION}/{segment(self.id)}{suffix}"
