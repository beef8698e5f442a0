"""Column types with the same behaviour on all databases."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, Double, String, TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy import Dialect


class WrittenJson(str):
    """JSON text as the value of a JSON column, for many rows: it is written before the transaction begins."""

    __slots__ = ()


class Text(TypeDecorator[str]):
    """Text; NUL and halves of surrogate pairs, which databases do not store, are replaced by U+FFFD and "?".

    They are rejected in requests, but an error's message can quote a damaged file.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Text to write."""
        if value is None:
            return None
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite has no time zones and would return naive times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Time to write. Raises ValueError for a naive time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs its time zone: {value}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Time as read, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Float64(TypeDecorator[float]):
    """A float64 that may be NaN; SQLite stores NaN as NULL (and -0.0 as 0.0)."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> float | None:
        """NULL for NaN, on every database."""
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: float | None, _dialect: Dialect) -> float:
        """NaN for NULL."""
        return math.nan if value is None else value
