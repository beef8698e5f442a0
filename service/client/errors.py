"""Errors of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.job import Job


class GradfleetError(Exception):
    """Base class of the client's errors."""


class ApiError(GradfleetError):
    """The API refused a request. `problem` is its answer (RFC 9457); the message names every invalid field."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem = problem
        self.status: int = problem["status"]
        errors = problem.get("errors", [])
        lines = [f"{error['field']}: {error['message']}" for error in errors] or [problem["detail"]]
        super().__init__("\n".join(lines))


class UnreachableError(GradfleetError):
    """No answer, in spite of retries; `__cause__` is the httpx.TransportError of the last try."""


class TokenFormError(GradfleetError, ValueError):
    """The token contains invalid characters; the message does not contain it."""


class JobNotSucceededError(GradfleetError):
    """A job that was waited for did not succeed; `job` is the job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id} ({job.name}) {job.state}" + (f": {job.reason}" if job.reason else ""))


class JobFailedError(JobNotSucceededError):
    """The job failed; its `reason` says why."""


class JobCancelledError(JobNotSucceededError):
    """The job was cancelled."""
