"""A limit on how often somebody asks."""

from __future__ import annotations

from time import monotonic

WINDOW = 1.0  # seconds
MANY = 10_000  # keys, after which those that were not seen for a while are forgotten


class RateLimit:
    """Lets each key take `per_second` a second on average, and as many at once (a token bucket).

    All that is known of a bucket is when it will be full again, as in the generic cell rate algorithm.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._full_at: dict[str, float] = {}

    def take(self, key: str) -> float:
        """Take one; gives 0, or where there is none, the seconds until there is."""
        now = monotonic()
        full_at = max(self._full_at.get(key, now), now) + self._interval
        if full_at > now + WINDOW:
            return full_at - now - WINDOW
        self._full_at[key] = full_at
        if len(self._full_at) > MANY:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        return 0.0
