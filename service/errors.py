"""Errors of the service's own code, each with the HTTP status of its response."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workers.job.checks.problems import FieldProblem


MOST_PROBLEMS = 20  # that a response names


class ServiceError(Exception):
    """A request cannot be served; the message tells the client why. A subclass sets the HTTP status."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problems: Sequence[FieldProblem] = ()

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers


class BadRequestError(ServiceError):
    """The request cannot be read."""

    status = HTTPStatus.BAD_REQUEST


class NotFoundError(ServiceError):
    """What the request names does not exist."""

    status = HTTPStatus.NOT_FOUND


class NotAcceptableError(ServiceError):
    """No media type that the client accepts can be produced."""

    status = HTTPStatus.NOT_ACCEPTABLE


class RequestTimeoutError(ServiceError):
    """The body arrives too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT


class ConflictError(ServiceError):
    """The current state of what the request names does not allow it."""

    status = HTTPStatus.CONFLICT


class TooLargeError(ServiceError):
    """The body is larger than allowed."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMediaTypeError(ServiceError):
    """The body has the wrong media type."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class InvalidError(ServiceError):
    """Some fields of the request are wrong."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, *problems: FieldProblem) -> None:
        first, *others = problems
        at_least = "at least " if len(problems) >= MOST_PROBLEMS else ""
        more = f" (and {at_least}{len(others)} more)" if others else ""
        super().__init__(f"{first.field}: {first.message}{more}")
        self.problems = problems


class QueueFullError(ServiceError):
    """As many jobs are queued as may be; the client should try again when some of them have started."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "30"})


class UnavailableError(ServiceError):
    """The service cannot do it now; the client should try again after some seconds."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, headers={"Retry-After": "5", **(headers or {})})
