"""A client of the REST API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from service.http import http_client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import httpx

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
POLL_SECONDS = 0.2


class ApiError(Exception):
    """The API refused a request; `problem` is what it answered (RFC 9457), and the text names every wrong field."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem = problem
        errors = problem.get("errors", [])
        lines = [f"{error['field']}: {error['message']}" for error in errors] or [problem["detail"]]
        super().__init__("\n".join(lines))


class Client:
    """Typed calls of the API at `base_url`; a context manager.

    A refused request raises ApiError, one that cannot be made httpx.TransportError.
    """

    def __init__(self, base_url: str, *, timeout: float = 30) -> None:
        self.base_url = base_url
        self._http = http_client(base_url, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Submit a job; with a key, submitting it again gives the same job."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._post("/v1/jobs", spec, headers)

    def job(self, job_id: str) -> dict[str, Any]:
        """One job."""
        return self._get(f"/v1/jobs/{quote(job_id, safe='')}")

    def jobs(
        self,
        *,
        limit: int = 20,
        starting_after: str | None = None,
        state: str | None = None,
        experiment: str | None = None,
    ) -> list[dict[str, Any]]:
        """Some jobs, newest first."""
        query = {"limit": limit, "starting_after": starting_after, "state": state, "experiment": experiment}
        page = self._get("/v1/jobs", {name: value for name, value in query.items() if value is not None})
        return list(page["data"])

    def metrics(
        self, job_id: str, *, names: list[str] | None = None, from_step: int | None = None, to_step: int | None = None
    ) -> dict[str, dict[str, list[Any]]]:
        """Series by name, each as `{"steps": [...], "values": [...]}`; a value that is not finite is None."""
        query: dict[str, Any] = {"name": names, "from_step": from_step, "to_step": to_step}
        path = f"/v1/jobs/{quote(job_id, safe='')}/metrics"
        return dict(self._get(path, {name: value for name, value in query.items() if value is not None})["data"])

    def events(self, job_id: str, *, limit: int = 20, starting_after: int | None = None) -> list[dict[str, Any]]:
        """What happened to a job, oldest first, after the event with the id `starting_after`."""
        query = {"limit": limit} | ({} if starting_after is None else {"starting_after": starting_after})
        return list(self._get(f"/v1/jobs/{quote(job_id, safe='')}/events", query)["data"])

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Ask a job to stop."""
        return self._ask(job_id, "cancel")

    def pause(self, job_id: str) -> dict[str, Any]:
        """Ask a job to stop for now."""
        return self._ask(job_id, "pause")

    def resume(self, job_id: str) -> dict[str, Any]:
        """Let a paused job go on."""
        return self._ask(job_id, "resume")

    def resize(self, job_id: str, *, workers: int | None = None, cpus_per_worker: int | None = None) -> dict[str, Any]:
        """Change what a job runs on, also while it runs; what is None stays as it is."""
        body = {"resources": {"workers": workers, "cpus_per_worker": cpus_per_worker}}
        return _answer(self._http.patch(f"/v1/jobs/{quote(job_id, safe='')}", json=body))

    def wait(self, job_id: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait until a job has ended and give it; TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (job := self.job(job_id))["state"] not in TERMINAL:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is {job['state']} after {timeout} s")
            time.sleep(POLL_SECONDS)
        return job

    def register_dataset(self, name: str, path: Path | str, label: str) -> dict[str, Any]:
        """Register a Parquet file on the service's machine under a name; `label` is the column of the class."""
        return self._post("/v1/datasets", {"name": name, "path": str(path), "label": label}, {})

    def datasets(self) -> list[dict[str, Any]]:
        """Every dataset, in order of name."""
        return list(self._get("/v1/datasets")["data"])

    def _ask(self, job_id: str, request: str) -> dict[str, Any]:
        return _answer(self._http.post(f"/v1/jobs/{quote(job_id, safe='')}/{request}"))

    def _get(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        return _answer(self._http.get(path, params=query))

    def _post(self, path: str, body: Mapping[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        # What JSON cannot hold (NaN) is for the service to refuse, in its own words.
        content = json.dumps(body).encode()
        return _answer(self._http.post(path, content=content, headers=headers | {"Content-Type": "application/json"}))


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.is_success:
        return dict(response.json())
    if response.headers.get("content-type") == "application/problem+json":
        raise ApiError(response.json())
    detail = f"{response.request.url} answered {response.status_code} {response.reason_phrase}; is it Gradfleet?"
    raise ApiError({"status": response.status_code, "detail": detail})
