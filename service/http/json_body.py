"""Strict JSON: values that are ambiguous, not exact or cannot be stored are rejected when they are parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.errors import BadRequestError, InvalidError, UnsupportedMediaTypeError
from service.strict_json import StrictJsonError, faults, parse
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def parse_json(text: bytes) -> Any:
    """Parse a JSON text.

    Raises BadRequestError or InvalidError for invalid JSON, and for NaN and Infinity, numbers beyond float64 or 64-bit
    integers, duplicate keys, strings with NUL or with half a surrogate pair, and nesting deeper than 32.
    """
    try:
        value = parse(text)
        problems = [FieldProblem(".".join(map(str, path)) or "body", message) for path, message in faults(value)]
    except StrictJsonError as error:
        raise BadRequestError(f"The body is not valid JSON: {error}.") from None
    if problems:
        raise InvalidError(*problems)
    return value


class StrictJsonRequest(Request):
    """A request whose JSON is parsed strictly."""

    async def json(self) -> Any:
        """The value of the body."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class StrictJsonRoute(APIRoute):
    """A route that accepts only strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Handler that checks the body's media type, then the body."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None

        async def strict(lenient: Request) -> Response:
            request = StrictJsonRequest(lenient.scope, lenient.receive)
            if takes_body:
                media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type != "application/json":
                    message = f"The body must be application/json, not {media_type or 'without a Content-Type'}."
                    raise UnsupportedMediaTypeError(message)
                if not await request.body():
                    raise BadRequestError("The body is empty; a JSON object is expected.")
                await request.json()  # the framework would replace an error raised when it reads the body
            return await handle(request)

        return strict
