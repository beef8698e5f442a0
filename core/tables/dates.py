"""The parts of dates, as numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = ("year", "month", "day", "weekday", "seconds")

# ISO 8601 with a full date; also with a space for the T, as databases write it, or with 2026/01/31.
_TIME = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?"
_ZONE = r"(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)"
FORM = rf"[1-9][0-9]{{3}}(-[0-9]{{2}}-[0-9]{{2}}|/[0-9]{{2}}/[0-9]{{2}})({_TIME}{_ZONE}?)?"
_FORM = re.compile(FORM)


def parts_of(dates: NDArray[np.datetime64]) -> dict[str, NDArray[np.float32]]:
    """Return the parts of dates (rows,), NaN where there is none: a Monday is weekday 0, `seconds` are of the day."""
    instants = dates.astype("datetime64[us]")
    days, months, years = (instants.astype(f"datetime64[{unit}]") for unit in "DMY")
    parts = {
        "year": years.astype(np.int64) + 1970,
        "month": months.astype(np.int64) % 12 + 1,
        "day": (days - months).astype(np.int64) + 1,
        "weekday": (days.astype(np.int64) + 3) % 7,  # the first of January 1970 was a Thursday
        "seconds": (instants - days).astype(np.int64) / 1e6,
    }
    missing = np.isnat(instants)
    return {name: np.where(missing, np.float32(np.nan), values.astype(np.float32)) for name, values in parts.items()}


def instant_of(value: Any) -> np.datetime64 | None:
    """Return the instant, in UTC, of a date or a text in ISO 8601; None for anything else."""
    if isinstance(value, str):
        if _FORM.fullmatch(value) is None:
            return None
        try:
            value = datetime.fromisoformat(value.replace("/", "-"))
        except ValueError:  # such as the 30th of February
            return None
    try:
        if getattr(value, "tzinfo", None) is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return np.datetime64(value, "us")
    except (OverflowError, TypeError, ValueError):
        return None
