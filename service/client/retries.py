"""When a request is retried, and after how long."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds
# Too many requests; the service or a proxy of it is temporarily unavailable.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class Retries:
    """The retries of one request: at most `limit` (None: no limit), all of them within `patience` seconds."""

    def __init__(self, limit: int | None, patience: float) -> None:
        self.done = 0
        self._limit = limit
        self._end = time.monotonic() + patience

    def pause(self, retry_after: float = 0) -> bool:
        """Wait before the next retry and return True; return False at once if there is none.

        `retry_after` is the minimum wait in seconds that the service requires.
        """
        seconds = pause_before(self.done, random.random(), retry_after)  # noqa: S311 - not a secret
        if self.done == self._limit or time.monotonic() + seconds > self._end:
            return False
        time.sleep(seconds)
        self.done += 1
        return True


def pause_before(retry: int, jitter: float, retry_after: float = 0) -> float:
    """Return the seconds to wait before a retry, counted from 0. `jitter`, from 0 to 1, keeps clients apart in time.

    The pause doubles with every retry; half of it depends on the jitter. It is never shorter than `retry_after`.
    """
    longest = min(FIRST_PAUSE * 2.0 ** min(retry, 10), LONGEST_PAUSE)
    return max(longest * (1 + jitter) / 2, retry_after * (1 + jitter / 2))


def seconds_of(retry_after: str | None) -> float:
    """Return the seconds in a Retry-After header, as a number or a date (RFC 9110); 0 if it is invalid."""
    if retry_after is None:
        return 0
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0
    # The zone -0000 means UTC, but is parsed as no zone.
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
