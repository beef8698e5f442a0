"""Errors of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.job import Job


class GradfleetError(Exception):
    """Base class of the client's errors."""


class ApiError(GradfleetError):
    """The API refused a request, or the answer is not one of the API.

    `problem` is the answer (RFC 9457). The message names every invalid field; `lines` are its lines, one for each.
    `body` is what a person calls the body of the request, such as the name of a file that was sent.
    """

    def __init__(self, problem: dict[str, Any], body: str = "request") -> None:
        self.problem = problem
        self.status: int = problem["status"]
        lines = [
            _line(body if error["field"] == "body" else error["field"], error) for error in problem.get("errors", [])
        ]
        self.lines: list[str] = lines or [problem["detail"]]
        super().__init__("\n".join(self.lines))


def _line(field: str, error: dict[str, str]) -> str:
    message = error["message"]
    # What is wrong with a file often begins with its name.
    return message if message.startswith(field) else f"{field}: {message}"


class UnreachableError(GradfleetError):
    """No answer, in spite of retries; `__cause__` is the httpx.RequestError of the last try."""


class AddressError(GradfleetError, ValueError):
    """The URL of the service is invalid, or the proxy of the environment cannot be used."""


class TokenFormError(GradfleetError, ValueError):
    """The token contains invalid characters; the message does not contain it."""


class DownloadError(GradfleetError):
    """A file that the service has sent cannot be used."""


class JobNotSucceededError(GradfleetError):
    """A job that was waited for did not succeed; `job` is the job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id} ({job.name}) {job.state}" + (f": {job.reason}" if job.reason else ""))


class JobFailedError(JobNotSucceededError):
    """The job failed; its `reason` says why."""


class JobCancelledError(JobNotSucceededError):
    """The job was cancelled."""
