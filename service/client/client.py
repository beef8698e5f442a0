"""REST API client."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from service.client.errors import TokenFormError
from service.client.http import http_client
from service.client.job import Job
from service.client.pages import entries
from service.client.stream import Streams
from service.client.sweep import Sweep
from service.client.transport import Transport, segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from types import TracebackType

    from service.client.views import (
        Dataset,
        DatasetDetail,
        DatasetOptions,
        Example,
        JobData,
        Preview,
        PreviewRow,
        RegisteredDataset,
        SweepData,
    )

REGISTRATION_TIMEOUT = 3600  # seconds; the service checks every row of a file before it answers


class Client:
    """Client of the API at `base_url`. It is a context manager and can be shared by threads.

    `token` is a token that `gradfleet tokens add` printed; default: the environment variable GRADFLEET_TOKEN, if set.

    A request is retried when the connection breaks, when no answer comes within `timeout` seconds, and when the service
    is busy or down: up to `retries` times within `patience` seconds. While `wait()`, `watch()` and `events()` follow a
    job, the service may be down for `patience` seconds at a time. A retry never creates a second job.

    Raises ApiError if the service refuses a request, UnreachableError if it does not answer, AddressError if the URL or
    the proxy in the environment cannot be used, TokenFormError if the token contains characters that no token has.
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

        Each call creates one job, however often its request is retried. Calls with the same `idempotency_key` and the
        same spec, in any process, create one job between them.
        """
        headers = None if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._job(self._transport.fetch("state", "POST", "/v1/jobs", body=spec, headers=headers))

    def job(self, job_id: str) -> Job:
        """Return a job."""
        return self._job(self._transport.fetch("state", "GET", f"/v1/jobs/{segment(job_id)}"))

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
        """Iterate over jobs, newest first: all, or at most `limit`. Pages are fetched as needed.

        `labels` selects the jobs that have all of them. `created_after` is inclusive, `created_before` exclusive; both
        need a time zone.
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
        """Submit a sweep. If one of its jobs is refused, none is created.

        `idempotency_key` works as in `submit`.
        """
        headers = None if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._sweep(self._transport.fetch("state", "POST", "/v1/sweeps", body=spec, headers=headers))

    def sweeps(self, *, limit: int | None = None) -> Iterator[Sweep]:
        """Iterate over sweeps, newest first: all, or at most `limit`. Pages are fetched as needed."""
        for data in entries(self._transport, "/v1/sweeps", limit=limit):
            yield self._sweep(data)

    def find_sweep(self, sweep_id: str) -> Sweep:
        """Return a sweep."""
        return self._sweep(self._transport.fetch("state", "GET", f"/v1/sweeps/{segment(sweep_id)}"))

    def validate(self, spec: Mapping[str, Any]) -> Preview:
        """Return what would run if the spec were submitted; nothing runs."""
        preview: Preview = self._transport.fetch("layers", "POST", "/v1/jobs/validate", body=spec)
        return preview

    def verify(
        self,
        certificate: Mapping[str, Any],
        *,
        workers: int = 1,
        cpus_per_worker: int = 1,
        sample: int | None = None,
        seed: int | None = None,
    ) -> Job:
        """Run the job of a certificate again; `verification` of the returned job says what was found so far.

        With `sample`, only so many intervals between its checkpoints are replayed, which `seed` chooses.
        """
        query = {"workers": workers, "cpus_per_worker": cpus_per_worker, "sample": sample, "seed": seed}
        return self._job(
            self._transport.fetch("state", "POST", "/v1/certificates/verify", query=query, body=certificate)
        )

    def register_dataset(
        self,
        name: str,
        path: Path | str,
        label: str | None = None,
        *,
        labels: Path | str | None = None,
        **options: Unpack[DatasetOptions],
    ) -> RegisteredDataset:
        """Register a file or directory on the service's machine, or a URI that the service may read, under a name.

        `label` is the column of the class; default: "label", unless there are targets. `labels` is a separate file with
        the labels.
        """
        body: dict[str, Any] = {"name": name, "path": str(path), "label": label, **options}
        body["labels"] = None if labels is None else str(labels)
        dataset: RegisteredDataset = self._transport.fetch(
            "rows", "POST", "/v1/datasets", body=body, timeout=REGISTRATION_TIMEOUT
        )
        return dataset

    def register_example(self, example: str, name: str | None = None) -> RegisteredDataset:
        """Register a dataset that scikit-learn brings (see `examples`) under a name; default: its own."""
        body = {"name": name or example, "example": example}
        dataset: RegisteredDataset = self._transport.fetch(
            "rows", "POST", "/v1/datasets", body=body, timeout=REGISTRATION_TIMEOUT
        )
        return dataset

    def examples(self) -> list[Example]:
        """Return the datasets that scikit-learn brings."""
        found: list[Example] = self._transport.fetch("data", "GET", "/v1/examples")["data"]
        return found

    def upload_dataset(
        self, name: str, file: Path | str, label: str | None = None, **options: Unpack[DatasetOptions]
    ) -> RegisteredDataset:
        """Upload a file from this machine, or several in a .zip or .tar, and register it under a name."""
        path = Path(file)
        query: dict[str, Any] = {"name": name, "filename": path.name, "label": label, **options}
        dataset: RegisteredDataset = self._transport.fetch(
            "rows", "POST", "/v1/datasets/upload", query=query, body=path, timeout=REGISTRATION_TIMEOUT
        )
        return dataset

    def dataset(self, name: str) -> DatasetDetail:
        """Return the newest version of a dataset, or the one that a name such as "digits@2" selects."""
        found: DatasetDetail = self._transport.fetch("rows", "GET", f"/v1/datasets/{segment(name)}")
        return found

    def delete_dataset(self, name: str) -> None:
        """Delete a dataset with all its versions, or the version that a name such as "digits@2" selects.

        No job that has not ended may use it.
        """
        self._transport.call("DELETE", f"/v1/datasets/{segment(name)}")

    def preview_dataset(self, name: str, rows: int = 5) -> list[PreviewRow]:
        """Return the first rows of a dataset."""
        path = f"/v1/datasets/{segment(name)}/preview"
        found: list[PreviewRow] = self._transport.fetch("rows", "GET", path, query={"rows": rows})["rows"]
        return found

    def contact_sheet(self, name: str) -> bytes:
        """Return some images of a dataset in one PNG image."""
        return self._transport.call("GET", f"/v1/datasets/{segment(name)}/contact-sheet").content

    def datasets(self) -> list[Dataset]:
        """Return the newest version of every dataset, sorted by name."""
        found: list[Dataset] = self._transport.fetch("data", "GET", "/v1/datasets")["data"]
        return found

    def _sweep(self, data: SweepData) -> Sweep:
        return Sweep(self._transport, self._streams, data)

    def _job(self, data: JobData) -> Job:
        return Job(self._transport, self._streams, data)


def _authorization(token: str) -> dict[str, str]:
    token = token.strip()  # a token read from a file ends with a newline
    # The HTTP library would refuse it with an error that contains the secret.
    if not re.fullmatch(r"[\w.~+/=-]*", token, re.ASCII):
        raise TokenFormError("the token contains invalid characters; use the token that `gradfleet tokens add` printed")
    return {"Authorization": f"Bearer {token}"} if token else {}
