"""Exchanges between workers of one process."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workers.exchange.zeromq import KEY_BYTES, Exchange, Membership

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG, SHORT = 30.0, 0.3  # seconds of silence: where an answer comes, and where none does
KEY = secrets.token_bytes(KEY_BYTES)
ATTEMPT = 3


@contextmanager
def group(workers: int, timeout: float = LONG) -> Iterator[list[Exchange]]:
    """The connected exchanges of an attempt's workers, in order of rank."""
    exchanges = [Exchange(Membership(rank, workers, ATTEMPT, KEY), "127.0.0.1", timeout) for rank in range(workers)]
    try:
        for exchange in exchanges:
            exchange.connect([each.address for each in exchanges])
        yield exchanges
    finally:
        for exchange in exchanges:
            exchange.close()
