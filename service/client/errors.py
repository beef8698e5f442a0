"""What goes wrong with a call, or with a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.job import Job


class GradfleetError(Exception):
    """Any error of the client."""


class ApiError(GradfleetError):
    """The API refused a request; `problem` is what it answered (RFC 9457), and the text names every wrong field."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem = problem
        self.status: int = problem["status"]
        errors = problem.get("errors", [])
        lines = [f"{error['field']}: {error['message']}" for error in errors] or [problem["detail"]]
        super().__init__("\n".join(lines))


class UnreachableError(GradfleetError):
    """No answer came, however often the request was repeated; `__cause__` is the last try's httpx.TransportError."""


class TokenFormError(GradfleetError, ValueError):
    """What was given as a token is none; the message does not repeat it."""


class JobNotSucceededError(GradfleetError):
    """A job that was waited for has ended without success; `job` is that job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id} ({job.name}) {job.state}" + (f": {job.reason}" if job.reason else ""))


class JobFailedError(JobNotSucceededError):
    """The job has failed; its `reason` says why."""


class JobCancelledError(JobNotSucceededError):
    """The job was cancelled."""
