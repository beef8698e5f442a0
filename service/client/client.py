"""The way to a service."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import quote

from service.client.errors import TokenFormError
from service.client.http import http_client
from service.client.job import Job
from service.client.pages import entries
from service.client.stream import Streams
from service.client.sweep import Sweep
from service.client.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from types import TracebackType

    from service.client.views import Dataset, DatasetDetail, DatasetOptions, JobData, Preview, PreviewRow, SweepData

REGISTRATION = 3600  # seconds without an answer, while every row of a file is being checked


class Client:
    """The API at `base_url`; a context manager, and safe to use from several threads.

    `token` is what `gradfleet tokens add` printed; default: the environment's GRADFLEET_TOKEN, or none.

    A call that meets a broken connection, silence for `timeout` seconds, or a service that is busy or away, is repeated
    up to `retries` times within `patience` seconds; `wait()`, `watch()` and `events()` of a job put up with a service
    that is away for as long as the patience lasts. No repetition makes a second job.

    Raises ApiError for a request that the service refuses, UnreachableError when no answer came, TokenFormError for a
    token in a wrong form.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: float = 30,
        retries: int = 5,
        patience: float = 60,
    ) -> None:
        self.base_url = base_url
        self._http = http_client(base_url, timeout, _authorization(token or os.environ.get("GRADFLEET_TOKEN", "")))
        self._transport = Transport(self._http, retries=retries, patience=patience)
        self._streams = Streams(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Submit a job.

        Each call makes one job, however often its request has to be repeated. With a key of yours, so do several calls
        with that key and the same spec, in whatever process.
        """
        headers = None if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._job(self._transport.call("POST", "/v1/jobs", body=spec, headers=headers).json())

    def job(self, job_id: str) -> Job:
        """One job."""
        return self._job(self._transport.call("GET", f"/v1/jobs/{quote(job_id, safe='')}").json())

    def jobs(
        self,
        *,
        state: str | None = None,
        experiment: str | None = None,
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first: all, or at most `limit`. They are fetched page by page, as far as they are taken.

        Only those with all the `labels`, made at `created_after` or later and before `created_before`, which need a
        time zone.
        """
        filters: dict[str, Any] = {
            "state": state,
            "experiment": experiment,
            "label": [f"{key}:{value}" for key, value in (labels or {}).items()],
            "created_after": created_after and created_after.isoformat(),
            "created_before": created_before and created_before.isoformat(),
        }
        for data in entries(self._transport, "/v1/jobs", filters, limit):
            yield self._job(data)

    def sweep(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Sweep:
        """Submit a sweep: all of its jobs, or none where one of them is refused.

        Each call makes one sweep, as each call of `submit` makes one job; a key of yours does the same here.
        """
        headers = None if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._sweep(self._transport.call("POST", "/v1/sweeps", body=spec, headers=headers).json())

    def sweeps(self, *, limit: int | None = None) -> Iterator[Sweep]:
        """Sweeps, newest first: all, or at most `limit`. They are fetched page by page, as far as they are taken."""
        for data in entries(self._transport, "/v1/sweeps", limit=limit):
            yield self._sweep(data)

    def find_sweep(self, sweep_id: str) -> Sweep:
        """One sweep that is there."""
        return self._sweep(self._transport.call("GET", f"/v1/sweeps/{quote(sweep_id, safe='')}").json())

    def validate(self, spec: Mapping[str, Any]) -> Preview:
        """What would run if the spec were submitted; nothing runs."""
        preview: Preview = self._transport.call("POST", "/v1/jobs/validate", body=spec).json()
        return preview

    def register_dataset(
        self,
        name: str,
        path: Path | str,
        label: str | None = None,
        *,
        labels: Path | str | None = None,
        **options: Unpack[DatasetOptions],
    ) -> Dataset:
        """Register a file or folder on the service's machine, or at an address that it may read, under a name.

        `label` is the column of the class, "label" unless there are targets; `labels` the file that has them, where
        that is another one.
        """
        body: dict[str, Any] = {"name": name, "path": str(path), "label": label, **options}
        body["labels"] = None if labels is None else str(labels)
        dataset: Dataset = self._transport.call("POST", "/v1/datasets", body=body, silence=REGISTRATION).json()
        return dataset

    def upload_dataset(
        self, name: str, file: Path | str, label: str | None = None, **options: Unpack[DatasetOptions]
    ) -> Dataset:
        """Send a file of this machine, or a .zip or .tar of several, and register it under a name."""
        path = Path(file)
        query: dict[str, Any] = {"name": name, "filename": path.name, "label": label, **options}
        dataset: Dataset = self._transport.call(
            "POST", "/v1/datasets/upload", query=query, file=path, silence=REGISTRATION
        ).json()
        return dataset

    def dataset(self, name: str) -> DatasetDetail:
        """One dataset: its newest version, or one such as "digits@2"."""
        found: DatasetDetail = self._transport.call("GET", f"/v1/datasets/{quote(name, safe='')}").json()
        return found

    def preview_dataset(self, name: str, rows: int = 5) -> list[PreviewRow]:
        """The first rows of a dataset."""
        path = f"/v1/datasets/{quote(name, safe='')}/preview"
        found: list[PreviewRow] = self._transport.call("GET", path, query={"rows": rows}).json()["rows"]
        return found

    def contact_sheet(self, name: str) -> bytes:
        """Some images of a dataset, as one PNG."""
        return self._transport.call("GET", f"/v1/datasets/{quote(name, safe='')}/contact-sheet").content

    def datasets(self) -> list[Dataset]:
        """Every dataset in its newest version, in order of name."""
        found: list[Dataset] = self._transport.call("GET", "/v1/datasets").json()["data"]
        return found

    def _sweep(self, data: SweepData) -> Sweep:
        return Sweep(self._transport, self._streams, data)

    def _job(self, data: JobData) -> Job:
        return Job(self._transport, self._streams, data)


def _authorization(token: str) -> dict[str, str]:
    token = token.strip()  # of a file, with the end of its line
    # An error of the HTTP library would quote the secret.
    if not re.fullmatch(r"[\w.~+/=-]*", token, re.ASCII):
        raise TokenFormError("the token has characters that no token has; give what `gradfleet tokens add` printed")
    return {"Authorization": f"Bearer {token}"} if token else {}
