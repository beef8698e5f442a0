"""A training job."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from service.client.download import save
from service.client.errors import JobCancelledError, JobFailedError
from service.client.handle import Handle
from service.client.stream import HEARTBEAT, SILENCE_SECONDS
from service.client.views import TERMINAL, JobData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from service.client.views import Artifacts, Event, Kept, Progress

POLL_SECONDS = 0.2
ARROW = "application/vnd.apache.arrow.stream"


class Job(Handle[JobData]):
    """A training job; see `Handle`."""

    COLLECTION, TERMINAL = "/v1/jobs", TERMINAL

    @property
    def reason(self) -> str | None:
        """Why the job is in this state."""
        return self.data["reason"]

    @property
    def progress(self) -> Progress:
        """Epochs and steps done, and the number of steps."""
        return self.data["progress"]

    @property
    def latest(self) -> dict[str, float | None]:
        """The latest value of each series; None if it is not finite."""
        return self.data["metrics"]

    @property
    def kept(self) -> Kept | None:
        """The parameters that are kept, which the trained model has, with their metrics; None before the end."""
        return self.data["kept"]

    def pause(self) -> Self:
        """Pause the job. It writes a checkpoint and frees its CPUs."""
        return self._act("/pause")

    def resume(self) -> Self:
        """Resume the job after a pause."""
        return self._act("/resume")

    def resize(self, *, workers: int | None = None, cpus_per_worker: int | None = None) -> Self:
        """Change the job's resources, even while it runs; None keeps a value. Results do not depend on them."""
        changes = {"workers": workers, "cpus_per_worker": cpus_per_worker}
        resources = {name: value for name, value in changes.items() if value is not None}
        body = {"resources": resources}
        return self._update(self._transport.fetch("state", "PATCH", self._path(), body=body))

    def certificate(self) -> dict[str, Any]:
        """Return the certificate of a job that has succeeded."""
        found: dict[str, Any] = self._transport.fetch("root", "GET", self._path("/certificate"))
        return found

    def artifacts(self, kinds: Sequence[str] | None = None) -> Artifacts:
        """Return the list of the job's files: all, or those of some kinds.

        Kinds are model, checkpoint, spec, evaluation, history, certificate and pictures. A job that has not ended has
        the files that are there so far.
        """
        query = {"kind": kinds and list(kinds)}
        found: Artifacts = self._transport.fetch("data", "GET", self._path("/artifacts"), query=query)
        return found

    def download(self, directory: Path | str, kinds: Sequence[str] | None = None) -> list[Path]:
        """Save the job's files, all or those of some kinds, in a directory, and return their paths.

        A file that is there with the same content is not fetched again. Raises DownloadError if one is damaged on its
        way, ApiError if one cannot be given.
        """
        found = self.artifacts(kinds)["data"]
        return [save(self._transport, self._path(), each, Path(directory)) for each in found]

    def wait(self, timeout: float | None = None, *, raise_on_failure: bool = True) -> Self:
        """Wait until the job has ended. Pauses and restarts, also of the service, do not end the wait.

        Raises JobFailedError or JobCancelledError if the job did not succeed, unless `raise_on_failure` is False;
        TimeoutError after `timeout` seconds; UnreachableError if the service is down for the client's `patience`, or
        until the timeout.
        """
        self._wait(timeout)
        if raise_on_failure and self.state == "failed":
            raise JobFailedError(self)
        if raise_on_failure and self.state == "cancelled":
            raise JobCancelledError(self)
        return self

    def wait_for_mlflow(self, timeout: float | None = None) -> Self:
        """Wait until the job has ended and its run in MLflow is complete, with the model of a job that has succeeded.

        Raises TimeoutError after `timeout` seconds, with what MLflow refuses, if anything; UnreachableError as `wait`
        does. The job itself may have failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wait(timeout)
        while not (self.data["mlflow"] or {"complete": False})["complete"]:
            if deadline is not None and time.monotonic() >= deadline:
                problem = self.data["mlflow_problem"] or "MLflow does not have everything yet"
                raise TimeoutError(f"the run of job {self.id} is not complete after {timeout:g} s: {problem}")
            time.sleep(POLL_SECONDS)
            self._refresh_within(deadline)
        return self

    def watch(self) -> Iterator[Self]:
        """Yield this job now, and whenever its state, progress or metrics have changed, until it has ended."""
        shown: JobData | None = None
        for _ in self._updates(None):
            if self.data != shown:
                shown = self.data
                yield self

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Iterate over the job's events, oldest first and then live, until the job has ended.

        Each event after the one with the id `after` is yielded once, however often the connection breaks.
        """
        while True:
            for message in self._streams.messages(self._path("/events"), str(after) if after else None):
                # Messages without an id report progress.
                if message.id is not None and int(message.id) > after:
                    yield json.loads(message.data)
                    after = int(message.id)
            # The state is fetched before the events: once a job has ended, no events follow.
            self._refresh_within(None)
            for event in self.history(after=after):
                yield event
                after = event["id"]
            if self.ended:
                return
            time.sleep(POLL_SECONDS)

    def history(self, *, after: int = 0) -> Iterator[Event]:
        """Iterate over the job's past events after the one with the id `after`, oldest first."""
        more = True
        while more:
            query = {"starting_after": after, "limit": 100}
            page = self._transport.fetch(
                "data", "GET", self._path("/events"), query=query, patience=self._transport.patience
            )
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
        """Return the job's points as an Arrow table: name (dictionary of strings), step (int64), value (float64).

        The rows are sorted by name and step. `names` selects series; default: all. With `max_points`, each series is
        thinned to so many points, which keep the shape of its curve.
        """
        import pyarrow as pa  # noqa: PLC0415  slow to import

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
        """Return the job's points as `text/csv`, `application/json` or `application/vnd.apache.arrow.stream`."""
        query = {"name": names and list(names), "from_step": from_step, "to_step": to_step, "max_points": max_points}
        path = self._path("/metrics")
        return self._transport.call("GET", path, query=query, headers={"Accept": media_type}).content

    def _updates(self, deadline: float | None) -> Iterator[None]:
        """Keep `data` up to date until the job has ended; yields after every update."""
        last_id = None
        while True:
            self._refresh_within(deadline)
            yield
            if self.ended:
                return
            # A stream may be silent for a long time. Close to the deadline, polling is more exact.
            near = deadline is not None and deadline - time.monotonic() < SILENCE_SECONDS
            for message in () if near else self._streams.messages(self._path("/events"), last_id):
                last_id = message.id or last_id
                if message.event == "progress":
                    progress = json.loads(message.data)
                    if progress["state"] != self.state:
                        break  # other fields have changed too
                    self.data = {**self.data, **progress}
                if message.event in {"progress", HEARTBEAT}:
                    yield
                if deadline is not None and deadline - time.monotonic() < SILENCE_SECONDS:
                    break
            else:
                time.sleep(POLL_SECONDS if deadline is None else max(0, min(POLL_SECONDS, deadline - time.monotonic())))
