"""Strict requests: values that are ambiguous, not exact or cannot be stored are rejected, as are unknown parameters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service.errors import MOST_PROBLEMS, BadRequestError, InvalidError, UnsupportedMediaTypeError
from service.http.field_errors import query_schema, unknown
from service.strict_json import StrictJsonError, faults, parse
from workers.job.checks.problems import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# A body of so many bytes is parsed and validated within milliseconds; a larger one in a thread.
SMALL = 4096


def parse_json(text: bytes) -> Any:
    """Parse a JSON text, in time proportional to its length.

    Raises BadRequestError or InvalidError for invalid JSON, and for NaN and Infinity, numbers beyond float64 or 64-bit
    integers, duplicate keys, strings with NUL or with half a surrogate pair, nesting deeper than 32, objects of more
    than 1,000 keys, and more than 100,000 values.
    """
    try:
        value = parse(text)
        wrong = faults(value)
    except StrictJsonError as error:
        raise BadRequestError(f"The body {error}.") from None
    if wrong:
        raise InvalidError(*(FieldProblem(".".join(map(str, path)) or "body", message) for path, message in wrong))
    return value


class StrictJsonRequest(Request):
    """A request whose JSON has been parsed strictly and validated."""

    def __init__(self, request: Request, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._body = b"read"  # not empty; the framework then asks for the JSON
        self._value = value

    async def json(self) -> Any:
        """The validated body: an instance of the route's model, which the framework takes as it is."""
        return self._value


class StrictJsonRoute(APIRoute):
    """A route that accepts only strict JSON, and only the parameters that it has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Handler that checks the query and the body's media type, then the body."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_query(request)
            if self.body_field is None:
                return await handle(request)
            media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != "application/json":
                message = f"The body must be application/json, not {media_type or 'without a Content-Type'}."
                raise UnsupportedMediaTypeError(message)
            body = await request.body()
            if not body:
                raise BadRequestError("The body is empty; a JSON object is expected.")
            value = self._validated(body) if len(body) <= SMALL else await run_in_threadpool(self._validated, body)
            return await handle(StrictJsonRequest(request, value))

        return strict

    def _validated(self, body: bytes) -> Any:
        """The body as an instance of the route's model. Raises RequestValidationError where it is not one."""
        document = parse_json(body)
        assert self.body_field is not None  # noqa: S101
        value, errors = self.body_field.validate(document, loc=("body",))
        if errors:
            raise RequestValidationError(errors, body=document)
        return value


def _check_query(request: Request) -> None:
    """Reject parameters that the route does not have, and several values of one that is not a list."""
    known = query_schema(request)["properties"]
    problems = []
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            problems.append(FieldProblem(name, unknown(name, known, "parameter")))
        elif count > 1 and known[name].get("type") != "array":
            problems.append(FieldProblem(name, f"is given {count} times; must be given once"))
        if len(problems) == MOST_PROBLEMS:
            break
    if problems:
        raise InvalidError(*problems)
