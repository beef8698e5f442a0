"""Strict JSON: values that are ambiguous, not exact or cannot be stored are refused, in requests and in files."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 32
LARGEST_INTEGER = 2**63
LONGEST_KEY = 60  # characters in a message


class StrictJsonError(ValueError):
    """A text is not strict JSON; the message says why."""


def parse(text: str | bytes) -> Any:
    """Parse a JSON text. Raises StrictJsonError for invalid JSON and for an object with a duplicate key."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=parse_int)
    except json.JSONDecodeError as error:
        raise StrictJsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"it is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise StrictJsonError(TOO_DEEP) from None


TOO_DEEP = f"it is nested too deeply; at most {DEEPEST} levels are allowed"


def faults(root: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the path and the problem of every wrong value.

    Wrong are NaN and infinity, numbers beyond float64 or 64-bit integers, and strings with NUL or with half a surrogate
    pair. Raises StrictJsonError for nesting deeper than 32.
    """
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while stack:
        path, value = stack.pop()
        if len(path) > DEEPEST:
            raise StrictJsonError(TOO_DEEP)
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


def quoted_key(key: str) -> str:
    """A key, short enough for a sentence."""
    return repr(key) if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]!r}..."


def parse_int(digits: str) -> float:
    """Return the integer; infinity, which is refused, if it has so many digits that int() would fail or be slow."""
    return int(digits) if len(digits) <= 20 else math.inf


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise StrictJsonError(f"the key {quoted_key(key)} occurs twice")
        entries[key] = value
    return entries


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "must not contain the character NUL"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "must not contain half of a surrogate pair"
    return None
