"""A sweep: many jobs that differ in some fields."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from service.client.handle import Handle
from service.client.job import Job
from service.client.pages import entries
from service.client.views import TERMINAL_OF_SWEEPS, SweepData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client.views import Comparison

POLL_SECONDS = 0.5


class Sweep(Handle[SweepData]):
    """A sweep as the API last returned it; `refresh()` fetches it again.

    `data` is the API's answer, and `sweep["field"]` one of its fields, even one that this client does not know.
    """

    COLLECTION = "/v1/sweeps"

    @property
    def state(self) -> str:
        """State: queued, running, paused, succeeded, failed, cancelled, or empty (all its jobs have been deleted)."""
        return self.data["state"]

    @property
    def counts(self) -> dict[str, int]:
        """Number of jobs in each state. Jobs that the sweep's own rule has cancelled count as `stopped`."""
        return self.data["jobs"]

    @property
    def ended(self) -> bool:
        """Whether all jobs have ended."""
        return self.state in TERMINAL_OF_SWEEPS

    def cancel(self) -> Self:
        """Cancel every job that has not ended."""
        return self._update(self._call("POST", "/cancel"))

    def jobs(self, *, state: str | None = None) -> list[Job]:
        """Return the jobs, oldest first: all, or those in a state."""
        found = entries(self._transport, "/v1/jobs", {"sweep": self.id, "state": state})
        return [Job(self._transport, self._streams, data) for data in found][::-1]

    def comparison(self, metric: str | None = None) -> Comparison:
        """Compare the jobs; those that differ only in the seed form a group.

        The best groups are found by the mean of `metric`, a validation metric; default: val/accuracy.
        """
        query = {"metric": metric}
        found: Comparison = self._transport.call("GET", self._path("/comparison"), query=query).json()
        return found

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until all jobs have ended; `state` says how.

        Raises TimeoutError after `timeout` seconds; UnreachableError if the service is down for the client's
        `patience`, or until the timeout.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self._updates(deadline):
            if not self.ended and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"sweep {self.id} is {self.state} after {timeout:g} s")
        return self

    def watch(self) -> Iterator[Self]:
        """Yield this sweep now, and twice a second until all jobs have ended."""
        for _ in self._updates(None):
            yield self

    def _updates(self, deadline: float | None) -> Iterator[None]:
        """Keep `data` up to date until all jobs have ended; yields after every update."""
        while True:
            left = float("inf") if deadline is None else deadline - time.monotonic()
            patience = min(self._transport.patience, left)
            self._update(self._transport.call("GET", self._path(), patience=patience))
            yield
            if self.ended:
                return
            time.sleep(max(0, min(POLL_SECONDS, left)))
