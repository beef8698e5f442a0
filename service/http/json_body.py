"""Strict requests: values that are ambiguous, not exact or cannot be stored are rejected, as are unknown parameters."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from service.errors import MOST_PROBLEMS, BadRequestError, InvalidError, UnsupportedMediaTypeError
from service.http.field_errors import query_schema, quote, unknown
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

DEEPEST = 32
MOST_VALUES, MOST_KEYS = 100_000, 1000
LARGEST_INTEGER = 2**63
# A body of so many bytes is parsed and validated within milliseconds; a larger one in a thread.
SMALL = 4096
SURROGATE = re.compile("[\ud800-\udfff]")


class DuplicateKeyError(ValueError):
    """An object has a duplicate key."""


def parse_json(text: bytes) -> Any:
    """Parse a JSON text, in time proportional to its length.

    Raises BadRequestError or InvalidError for invalid JSON, and for NaN and Infinity, numbers beyond float64 or 64-bit
    integers, duplicate keys, strings with NUL or with half a surrogate pair, nesting deeper than 32, objects of more
    than 1,000 keys, and more than 100,000 values.
    """
    # Before anything is allocated for them. In a body of this service, few of these characters are within strings.
    if sum(text.count(character) for character in (b",", b"[", b"{")) > MOST_VALUES:
        raise BadRequestError(f"The body has more than {MOST_VALUES:,} values, the limit of this service.")
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
    check = _Check()
    check.value(value)
    if check.problems:
        raise InvalidError(*check.problems)
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_KEYS:
        raise BadRequestError(f"An object in the body has more than {MOST_KEYS:,} keys, the limit of this service.")
    entries = dict(pairs)
    if len(entries) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKeyError(f"the key {quote(key)} occurs twice")
            seen.add(key)
    return entries


def _parse_int(digits: str) -> float:
    # int() raises another error for thousands of digits; such a number is rejected like infinity.
    return int(digits) if len(digits) <= 20 else math.inf


def _too_deep() -> BadRequestError:
    return BadRequestError(f"The body is nested too deeply; at most {DEEPEST} levels are allowed.")


class _Check:
    """Finds the first wrong values of a document."""

    def __init__(self) -> None:
        self.problems: list[FieldProblem] = []
        self._path: list[str | int] = []

    def value(self, value: Any) -> None:
        """Check a value and everything in it."""
        if len(self._path) > DEEPEST:
            raise _too_deep()
        if isinstance(value, dict):
            for key, entry in value.items():
                if fault := _text_fault(key):
                    self._note(f"has a key that {fault}")
                self._below(key, entry)
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                self._below(index, entry)
        elif isinstance(value, str):
            if fault := _text_fault(value):
                self._note(fault)
        elif isinstance(value, float) and not math.isfinite(value):
            self._note("must be a finite number within the range of 64 bits")
        elif isinstance(value, int) and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            self._note(f"must be an integer within 64 bits, not {value}")

    def _below(self, part: str | int, value: Any) -> None:
        self._path.append(part)
        self.value(value)
        self._path.pop()

    def _note(self, message: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(FieldProblem(".".join(map(str, self._path)) or "body", message))


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "must not contain the character NUL"
    if not text.isascii() and SURROGATE.search(text):
        return "must not contain half of a surrogate pair"
    return None
