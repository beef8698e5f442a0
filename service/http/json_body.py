"""Strict JSON: values that are ambiguous, not exact or cannot be stored are rejected when they are parsed."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.errors import BadRequestError, InvalidError, UnsupportedMediaTypeError
from service.http.field_errors import quote
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

DEEPEST = 32
LARGEST_INTEGER = 2**63


class DuplicateKeyError(ValueError):
    """An object has a duplicate key."""


def parse_json(text: bytes) -> Any:
    """Parse a JSON text.

    Raises BadRequestError or InvalidError for invalid JSON, and for NaN and Infinity, numbers beyond float64 or 64-bit
    integers, duplicate keys, strings with NUL or with half a surrogate pair, and nesting deeper than 32.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_parse_int)
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise BadRequestError(message) from None
    except UnicodeDecodeError as error:
        message = f"The body is not valid JSON: it is not UTF-8 at byte {error.start}."
        raise BadRequestError(message) from None
    except DuplicateKeyError as error:
        raise BadRequestError(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise _too_deep() from None
    problems = [FieldProblem(".".join(map(str, path)) or "body", message) for path, message in _faults(value)]
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DuplicateKeyError(f"the key {quote(next(key for key in keys if keys.count(key) > 1))} occurs twice")
    return entries


def _parse_int(digits: str) -> float:
    # int() raises another error for thousands of digits; such a number is rejected like infinity.
    return int(digits) if len(digits) <= 20 else math.inf


def _too_deep() -> BadRequestError:
    return BadRequestError(f"The body is nested too deeply; at most {DEEPEST} levels are allowed.")


def _faults(root: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The path and the problem of every wrong value."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while stack:
        path, value = stack.pop()
        if len(path) > DEEPEST:
            raise _too_deep()
        if isinstance(value, dict):
            for key in value:
                if fault := _text_fault(key):
                    yield path, f"has a key that {fault}"
            stack.extend(((*path, key), entry) for key, entry in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend(((*path, index), entry) for index, entry in reversed(list(enumerate(value))))
        elif isinstance(value, str):
            if fault := _text_fault(value):
                yield path, fault
        elif isinstance(value, float) and not math.isfinite(value):
            yield path, "must be a finite number within the range of 64 bits"
        elif isinstance(value, int) and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            yield path, f"must be an integer within 64 bits, not {value}"


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "must not contain the character NUL"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain half of a surrogate pair"
    return None
