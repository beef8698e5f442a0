"""A sweep, as its owner holds it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from service.client.handle import Handle
from service.client.job import Job
from service.client.pages import entries
from service.client.views import LAST_OF_SWEEPS, SweepData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client.views import Comparison

POLL_SECONDS = 0.5


class Sweep(Handle[SweepData]):
    """A sweep as it was when it was last asked for; `refresh()` asks again.

    `data` is all that the API says of it, and `sweep["field"]` one field of it, also one that this client does not
    know.
    """

    PLACE = "/v1/sweeps"

    @property
    def state(self) -> str:
        """Where its jobs stand: queued, running, paused, succeeded, failed, cancelled, or empty (all are deleted)."""
        return self.data["state"]

    @property
    def counts(self) -> dict[str, int]:
        """How many of its jobs are in each state; those that its own rule has cancelled count as stopped."""
        return self.data["jobs"]

    @property
    def ended(self) -> bool:
        """Whether all its jobs have ended."""
        return self.state in LAST_OF_SWEEPS

    def cancel(self) -> Self:
        """Cancel every job of it that has not ended."""
        return self._take(self._call("POST", "/cancel"))

    def jobs(self, *, state: str | None = None) -> list[Job]:
        """Its jobs in the order in which they were made: all, or those in a state."""
        found = entries(self._transport, "/v1/jobs", {"sweep": self.id, "state": state})
        return [Job(self._transport, self._streams, data) for data in found][::-1]

    def comparison(self, metric: str | None = None) -> Comparison:
        """Its jobs side by side, and those that differ in the seed only taken together.

        The best are found by the mean of `metric`, a metric of the validation; default: val/accuracy.
        """
        query = {"metric": metric}
        found: Comparison = self._transport.call("GET", self._path("/comparison"), query=query).json()
        return found

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until all its jobs have ended, whichever way: `state` says it.

        Raises TimeoutError after `timeout` seconds; UnreachableError when the service is away for the client's
        `patience`, or until then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self._looks(deadline):
            if not self.ended and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"sweep {self.id} is {self.state} after {timeout:g} s")
        return self

    def watch(self) -> Iterator[Self]:
        """This sweep, now and twice a second, until all its jobs have ended."""
        for _ in self._looks(None):
            yield self

    def _looks(self, deadline: float | None) -> Iterator[None]:
        """Keep the data up to date: yields after every look until all has ended, or for ever."""
        while True:
            left = float("inf") if deadline is None else deadline - time.monotonic()
            patience = min(self._transport.patience, left)
            self._take(self._transport.call("GET", self._path(), patience=patience))
            yield
            if self.ended:
                return
            time.sleep(max(0, min(POLL_SECONDS, left)))
