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
    """A sweep; see `Handle`."""

    COLLECTION, TERMINAL = "/v1/sweeps", TERMINAL_OF_SWEEPS

    @property
    def counts(self) -> dict[str, int]:
        """Number of jobs in each state. Jobs that the sweep's own rule has cancelled count as `stopped`."""
        return self.data["jobs"]

    def jobs(self, *, state: str | None = None) -> list[Job]:
        """Return the jobs, oldest first: all, or those in a state."""
        found = entries(self._transport, "/v1/jobs", {"sweep": self.id, "state": state})
        return [Job(self._transport, self._streams, data) for data in found][::-1]

    def comparison(self, metric: str | None = None) -> Comparison:
        """Compare the jobs; those that differ only in the seed form a group.

        The best groups are found by the mean of `metric`, with its values of the parameters that are kept. Default:
        the metric of the sweep's stopping rule, or else that by which jobs of this task are ranked. Raises
        ApiError if a job does not have the metric.
        """
        query = {"metric": metric}
        found: Comparison = self._transport.fetch("groups", "GET", self._path("/comparison"), query=query)
        return found

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until all jobs have ended; `state` says how.

        Raises TimeoutError after `timeout` seconds; UnreachableError if the service is down for the client's
        `patience`, or until the timeout.
        """
        self._wait(timeout)
        return self

    def watch(self) -> Iterator[Self]:
        """Yield this sweep now, and twice a second until all jobs have ended."""
        for _ in self._updates(None):
            yield self

    def _updates(self, deadline: float | None) -> Iterator[None]:
        """Keep `data` up to date until all jobs have ended; yields after every update."""
        while True:
            self._refresh_within(deadline)
            yield
            if self.ended:
                return
            time.sleep(POLL_SECONDS if deadline is None else max(0, min(POLL_SECONDS, deadline - time.monotonic())))
