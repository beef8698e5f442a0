"""Strict JSON: values that are ambiguous, not exact or cannot be stored are refused, in requests and in files."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from service.short_text import quoted

DEEPEST = 32
MOST_VALUES, MOST_KEYS = 100_000, 1000
MOST_FAULTS = 20
LARGEST_INTEGER = 2**63
LONGEST_KEY = 60  # characters in a message
SURROGATE = re.compile("[\ud800-\udfff]")
TOO_DEEP = f"is nested too deeply; at most {DEEPEST} levels are allowed"

Path = tuple[str | int, ...]


class StrictJsonError(ValueError):
    """A text is not strict JSON; the message is the rest of a sentence that begins with the name of the text."""


def parse(text: bytes) -> Any:
    """Parse a JSON text, in time proportional to its length.

    Raises StrictJsonError for invalid JSON, duplicate keys, objects of more than 1,000 keys, and more than 100,000
    values.
    """
    # Before anything is allocated for them. In a spec, few of these characters are within strings.
    if sum(text.count(character) for character in (b",", b"[", b"{")) > MOST_VALUES:
        raise StrictJsonError(f"has more than {MOST_VALUES:,} values, the limit of this service")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=parse_int)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise StrictJsonError(f"is not valid JSON: {reason}") from None
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"is not valid JSON: it is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise StrictJsonError(TOO_DEEP) from None


def faults(value: Any) -> list[tuple[Path, str]]:
    """Return the paths and the problems of the first 20 wrong values.

    Wrong are NaN and infinity, numbers beyond float64 or 64-bit integers, and strings with NUL or with half a surrogate
    pair. Raises StrictJsonError for nesting deeper than 32.
    """
    check = _Check()
    check.value(value)
    return check.faults


def parse_int(digits: str) -> float:
    """Return the integer; infinity, which is refused, if it has so many digits that int() would fail or be slow."""
    return int(digits) if len(digits) <= 20 else math.inf


def quoted_key(key: str) -> str:
    """A key, short enough for a sentence."""
    return quoted(key, LONGEST_KEY)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_KEYS:
        raise StrictJsonError(f"has an object of more than {MOST_KEYS:,} keys, the limit of this service")
    entries = dict(pairs)
    if len(entries) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError(f"is not valid JSON: the key {quoted_key(key)} occurs twice")
            seen.add(key)
    return entries


class _Check:
    """Finds the first wrong values of a document."""

    def __init__(self) -> None:
        self.faults: list[tuple[Path, str]] = []
        self._path: list[str | int] = []

    def value(self, value: Any) -> None:
        """Check a value and everything in it."""
        if len(self._path) > DEEPEST:
            raise StrictJsonError(TOO_DEEP)
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
        if len(self.faults) < MOST_FAULTS:
            self.faults.append((tuple(self._path), message))


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "must not contain the character NUL"
    if not text.isascii() and SURROGATE.search(text):
        return "must not contain half of a surrogate pair"
    return None
