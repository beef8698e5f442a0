"""Rate limit of requests."""

from __future__ import annotations

from time import monotonic

WINDOW = 1.0  # seconds
MANY = 10_000  # number of keys above which full buckets are removed


class RateLimit:
    """Token bucket per key: `per_second` requests a second on average, and as many at once.

    Of a bucket only the time at which it will be full again is stored, as in the generic cell rate algorithm.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> float:
        """Take one request; returns 0, or the seconds to wait where the bucket is empty."""
        now = monotonic()
        full_at = max(self._full_at.get(key, now), now) + self._interval
        if full_at > now + WINDOW:
            return full_at - now - WINDOW
        self._full_at[key] = full_at
        if len(self._full_at) > MANY:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        return 0.0
