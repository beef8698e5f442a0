"""Errors as RFC 9457 problem details: what is wrong, and what would be right."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from service.errors import MOST_PROBLEMS, InvalidError, ServiceError
from service.http.field_errors import field_problems
from service.http.observed import REQUEST_ID
from service.short_text import shortened
from service.store.database import is_full, is_unavailable
from service.telemetry.logs import request_id
from workers.job.checks.problems import SpecError
from workers.machine.error_text import FULL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request

    from workers.job.checks.problems import FieldProblem

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"  # seconds
# Bounds of a response, however much was wrong: characters of a field, a message and the path, and bytes of all errors.
LONGEST_FIELD, LONGEST_MESSAGE, LONGEST_PATH = 200, 1000, 200
MOST_ERROR_BYTES = 32 * 1024


class FieldProblemView(BaseModel):
    """A field that is wrong."""

    field: str = Field(description="Dotted path of the field in the request.", examples=["model.layers.0.units"])
    message: str = Field(description="What is wrong and what would be right.", examples=["must be at least 1, not -3"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field("about:blank", description="Kind of problem; about:blank means that the status describes it.")
    title: str = Field(description="Name of the status.", examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["training.epochs: must be at least 1, not -3"])
    instance: str | None = Field(None, description="Path of the request.", examples=["/v1/jobs"])
    errors: list[FieldProblemView] = Field([], description="Every field that is wrong.")


# For `responses=` of a router: FastAPI then omits its own schema of a validation error. `complete` replaces it.
PROBLEM_RESPONSES: dict[int | str, dict[str, object]] = {"4XX": {"description": "The request is wrong"}}


def problem_response(
    status: int,
    detail: str,
    *,
    instance: str | None = None,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A response with problem details: the first errors, and the beginnings of long texts."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=shortened(detail, LONGEST_FIELD + LONGEST_MESSAGE),
        instance=instance and shortened(instance, LONGEST_PATH),
        errors=_shown(errors),
    )
    # ASCII, since quotes of the request may contain characters that cannot be encoded.
    content = json.dumps({"type": problem.type} | problem.model_dump(exclude_defaults=True))
    return Response(content, status, headers, MEDIA_TYPE)


def _shown(errors: Sequence[FieldProblem]) -> list[FieldProblemView]:
    shown, left = [], MOST_ERROR_BYTES
    for error in errors[:MOST_PROBLEMS]:
        view = FieldProblemView(
            field=shortened(error.field, LONGEST_FIELD), message=shortened(error.message, LONGEST_MESSAGE)
        )
        left -= len(json.dumps(view.model_dump()))
        if left < 0:
            break
        shown.append(view)
    return shown


def no_database(method: str, path: str, error: SQLAlchemyError) -> Response:
    """503 response while the database does not respond."""
    cause = getattr(error, "orig", error)  # without the statement and its values
    logger.warning("%s %s: the database does not respond: %s", method, path, cause)
    detail = "The database does not respond. Nothing is lost; try again, with an Idempotency-Key for a POST."
    headers = {"Retry-After": RETRY_AFTER}
    return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail, instance=path, headers=headers)


def no_space(method: str, path: str, error: Exception) -> Response:
    """507 response while the service's disk is full."""
    logger.warning("%s %s: the disk is full: %s", method, path, getattr(error, "orig", error))
    detail = "The disk of the service is full, and nothing was stored. Try again when its operator has made space."
    return problem_response(HTTPStatus.INSUFFICIENT_STORAGE, detail, instance=path)


def install_problem_handlers(app: FastAPI) -> None:
    """Respond to every error of `app` with problem details."""

    @app.exception_handler(ServiceError)
    def service_error(request: Request, error: ServiceError) -> Response:
        path = request.url.path
        return problem_response(error.status, str(error), instance=path, errors=error.problems, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def validation_error(request: Request, error: RequestValidationError) -> Response:
        return service_error(request, InvalidError(*field_problems(error, request)))

    @app.exception_handler(SpecError)
    def spec_error(request: Request, error: SpecError) -> Response:
        return service_error(request, InvalidError(*error.problems))

    @app.exception_handler(HTTPException)
    def framework_error(request: Request, error: HTTPException) -> Response:
        path, detail, headers = request.url.path, error.detail, error.headers
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = f"There is nothing at {path}; the API is described at /docs."
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(_methods_at(request))
            headers = {"Allow": allowed}
            detail = f"{request.method} is not possible at {path}; allowed: {allowed}."
        return problem_response(error.status_code, detail, instance=path, headers=headers)

    @app.exception_handler(SQLAlchemyError)
    def database_error(request: Request, error: SQLAlchemyError) -> Response:
        if is_full(error):
            return no_space(request.method, request.url.path, error)
        if not is_unavailable(error):
            return unexpected_error(request, error)
        return no_database(request.method, request.url.path, error)

    @app.exception_handler(OSError)
    def storage_error(request: Request, error: OSError) -> Response:
        if error.errno not in FULL:
            return unexpected_error(request, error)
        return no_space(request.method, request.url.path, error)

    @app.exception_handler(Exception)
    def unexpected_error(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        detail = "The service failed; the error is in its log."
        # This response passes no middleware, so the request id, by which the error is found in the log, is added here.
        headers = {REQUEST_ID: identity} if (identity := request_id.get()) else None
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, detail, instance=request.url.path, headers=headers)


def _methods_at(request: Request) -> list[str]:
    """Methods of a path; the framework's own header has only those of the first matching route."""
    paths: dict[str, dict[str, object]] = request.app.openapi()["paths"]
    asked = request.url.path
    # A path that exists literally is not an id in another path.
    at = [asked] if asked in paths else [path for path in paths if compile_path(path)[0].match(asked)]
    methods = {method.upper() for path in at for method in paths[path]} or {"GET"}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
