"""A job, as its owner holds it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Self

from service.client.errors import JobCancelledError, JobFailedError
from service.client.handle import Handle
from service.client.stream import HEARTBEAT, SILENCE_SECONDS
from service.client.views import TERMINAL, JobData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from service.client.views import Event, Progress

POLL_SECONDS = 0.2
ARROW = "application/vnd.apache.arrow.stream"


class Job(Handle[JobData]):
    """A job as it was when it was last asked for; `refresh()` asks again.

    `data` is all that the API says of it, and `job["field"]` one field of it, also one that this client does not
    know.
    """

    PLACE = "/v1/jobs"

    @property
    def state(self) -> str:
        """Where it stands: queued, starting, running, pausing, paused, cancelling, succeeded, failed or cancelled."""
        return self.data["state"]

    @property
    def reason(self) -> str | None:
        """Why it is in this state."""
        return self.data["reason"]

    @property
    def ended(self) -> bool:
        """Whether it has succeeded, failed or been cancelled, and never changes again."""
        return self.state in TERMINAL

    @property
    def progress(self) -> Progress:
        """Epochs and steps that are done, and how many steps there are."""
        return self.data["progress"]

    @property
    def latest(self) -> dict[str, float | None]:
        """The latest value of each series; None is not a finite number."""
        return self.data["metrics"]

    def cancel(self) -> Self:
        """Stop it for good: a queued or paused job at once, a running one at its next step."""
        return self._take(self._call("POST", "/cancel"))

    def pause(self) -> Self:
        """Stop it for now, with a checkpoint: its CPUs are free then."""
        return self._take(self._call("POST", "/pause"))

    def resume(self) -> Self:
        """Let it go on after a pause."""
        return self._take(self._call("POST", "/resume"))

    def resize(self, *, workers: int | None = None, cpus_per_worker: int | None = None) -> Self:
        """Change what it runs on, also while it runs; what is None stays. No result depends on it."""
        wanted = {"workers": workers, "cpus_per_worker": cpus_per_worker}
        resources = {name: value for name, value in wanted.items() if value is not None}
        return self._take(self._call("PATCH", body={"resources": resources}))

    def delete(self) -> None:
        """Delete it, with all that is known of it; only a job that has ended can be."""
        self._call("DELETE")

    def wait(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> Self:
        """Wait until it has ended, through pauses and restarts, of the service too.

        Raises JobFailedError or JobCancelledError when it has not succeeded, unless `raise_on_failure` is False;
        TimeoutError after `timeout` seconds; UnreachableError when the service is away for the client's `patience`, or
        until then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self._looks(deadline):
            if not self.ended and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.id} is {self.state} after {timeout:g} s")
        if raise_on_failure and self.state == "failed":
            raise JobFailedError(self)
        if raise_on_failure and self.state == "cancelled":
            raise JobCancelledError(self)
        return self

    def watch(self) -> Iterator[Self]:
        """This job, now and whenever its state, progress or metrics have changed, until it has ended."""
        shown: JobData | None = None
        for _ in self._looks(None):
            if self.data != shown:
                shown = self.data
                yield self

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """What happens to it, oldest first and then as it happens, until it has ended.

        Every event after the one with the id `after` comes once, however often the connection breaks.
        """
        while True:
            for message in self._streams.messages(self._path("/events"), str(after) if after else None):
                # Those without an id tell of progress.
                if message.id is not None and int(message.id) > after:
                    yield json.loads(message.data)
                    after = int(message.id)
            # First the state: a job that has ended has no events to come.
            self._refresh_patiently(None)
            for event in self.history(after=after):
                yield event
                after = event["id"]
            if self.ended:
                return
            time.sleep(POLL_SECONDS)

    def history(self, *, after: int = 0) -> Iterator[Event]:
        """What has happened to it so far, oldest first; only what came after the event with the id `after`."""
        more = True
        while more:
            query = {"starting_after": after, "limit": 100}
            page = self._transport.call(
                "GET", self._path("/events"), query=query, patience=self._transport.patience
            ).json()
            for event in page["data"]:
                yield event
                after = event["id"]
            more = page["has_more"]

    def metrics(
        self,
        names: Sequence[str] | None = None,
        *,
        from_step: int | None = None,
        to_step: int | None = None,
        max_points: int | None = None,
    ) -> pa.Table:
        """Its points as an Arrow table: name (dictionary of strings), step (int64), value (float64).

        All series or those with these `names`, in order of name and step; of each at most `max_points`, which keep the
        form of its curve.
        """
        import pyarrow as pa  # noqa: PLC0415  the client is light without it

        content = self.export_metrics(ARROW, names, from_step=from_step, to_step=to_step, max_points=max_points)
        return pa.ipc.open_stream(content).read_all()

    def export_metrics(
        self,
        media_type: str,
        names: Sequence[str] | None = None,
        *,
        from_step: int | None = None,
        to_step: int | None = None,
        max_points: int | None = None,
    ) -> bytes:
        """Its points as a file: `text/csv`, `application/json`, or `application/vnd.apache.arrow.stream`."""
        query = {"name": names and list(names), "from_step": from_step, "to_step": to_step, "max_points": max_points}
        path = self._path("/metrics")
        return self._transport.call("GET", path, query=query, headers={"Accept": media_type}).content

    def _looks(self, deadline: float | None) -> Iterator[None]:
        """Keep the data up to date: yields after every look until the job has ended, or for ever."""
        last_id = None
        while True:
            self._refresh_patiently(deadline)
            yield
            if self.ended:
                return
            # A stream may be silent for long: close to the deadline, asking is more exact.
            near = deadline is not None and deadline - time.monotonic() < SILENCE_SECONDS
            for message in () if near else self._streams.messages(self._path("/events"), last_id):
                last_id = message.id or last_id
                if message.event == "progress":
                    news = json.loads(message.data)
                    if news["state"] != self.state:
                        break  # more is new than stands here
                    self.data = {**self.data, **news}
                if message.event in {"progress", HEARTBEAT}:
                    yield
                if deadline is not None and deadline - time.monotonic() < SILENCE_SECONDS:
                    break
            else:
                time.sleep(POLL_SECONDS if deadline is None else max(0, min(POLL_SECONDS, deadline - time.monotonic())))

    def _refresh_patiently(self, deadline: float | None) -> None:
        patience = self._transport.patience
        if deadline is not None:
            patience = min(patience, deadline - time.monotonic())
        self._take(self._transport.call("GET", self._path(), patience=patience))
