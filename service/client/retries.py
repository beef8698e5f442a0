"""When a call is repeated, and after how long."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds
# Too many requests, and three ways to say that the service is not there just now.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class Retries:
    """The retries of one call: at most `limit` of them, or any number for None, the last within `patience` seconds."""

    def __init__(self, limit: int | None, patience: float) -> None:
        self.done = 0
        self._limit = limit
        self._end = time.monotonic() + patience

    def pause(self, retry_after: float = 0) -> bool:
        """Wait before the next retry; False, at once, when there is none.

        `retry_after` is the least number of seconds that the service asks for.
        """
        seconds = pause_before(self.done, random.random(), retry_after)  # noqa: S311  no secret hangs on it
        if self.done == self._limit or time.monotonic() + seconds > self._end:
            return False
        time.sleep(seconds)
        self.done += 1
        return True


def pause_before(retry: int, jitter: float, retry_after: float = 0) -> float:
    """Seconds before a retry, counted from 0; `jitter` from 0 to 1 spreads clients that failed at one moment.

    The pause doubles with every retry, and half of it is spread. It is never shorter than `retry_after`.
    """
    longest = min(FIRST_PAUSE * 2.0 ** min(retry, 10), LONGEST_PAUSE)
    return max(longest * (1 + jitter) / 2, retry_after * (1 + jitter / 2))


def seconds_of(retry_after: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date (RFC 9110); 0 when it says nothing."""
    if retry_after is None:
        return 0
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    # A date with the zone -0000 is read as one without: it is meant as UTC.
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
