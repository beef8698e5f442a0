"""Labels, by which users find their jobs."""

from __future__ import annotations

import posixpath
from typing import Annotated

from pydantic import AfterValidator, Field

from workers.job.fields import AllowedText

MAX_LABELS = 32


def _check_key(key: str) -> str:
    if posixpath.normpath(key) != key:
        raise ValueError('must not have "//", "/./" or "/../", or "/" at its end: MLflow does not accept such tags')
    return key


# No colon, since it ends the key in a filter.
Key = Annotated[
    str, Field(min_length=1, max_length=63, pattern="^[A-Za-z0-9][A-Za-z0-9._/-]*$"), AfterValidator(_check_key)
]
Value = Annotated[str, AllowedText, Field(min_length=1, max_length=200)]


def _in_order(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))


Labels = Annotated[dict[Key, Value], Field(max_length=MAX_LABELS), AfterValidator(_in_order)]


def parse_filter(text: str) -> tuple[str, str]:
    """Key and value of "key:value". Raises ValueError for other text."""
    key, colon, value = text.partition(":")
    if not (key and colon and value) or "\0" in text:
        raise ValueError("must be a key and a value with a colon between them, such as team:vision")
    return key, value


def _check_filter(text: str) -> str:
    parse_filter(text)
    return text


LabelFilter = Annotated[
    str, AfterValidator(_check_filter), Field(json_schema_extra={"pattern": r"^[^:\x00]+:[^\x00]+$"})
]
