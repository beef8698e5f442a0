"""Look-up of tokens, cached for a second."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from service.access.tokens import Role, find_token

if TYPE_CHECKING:
    from service.store import Database

# A query for each request would make it a third slower. A revoked token is rejected after this many seconds.
CACHED_SECONDS = 1.0


@dataclass(frozen=True)
class Caller:
    """Sender of a valid token."""

    token_id: str
    role: Role


class TokenLookup:
    """Finds callers by their tokens, and caches valid tokens for a second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # By hash, so that the time of a look-up reveals nothing about a secret. Only valid tokens: it stays small.
        self._found: dict[bytes, tuple[float, Caller]] = {}

    async def find(self, text: str) -> Caller | None:
        """The caller with this token; None if it does not exist or is revoked."""
        key = hashlib.sha256(text.encode()).digest()
        asked_at = monotonic()
        valid_until, caller = self._found.get(key, (0.0, None))
        if caller is not None and asked_at < valid_until:
            return caller
        caller = await run_in_threadpool(self._ask, text)
        if caller is None:
            self._found.pop(key, None)
        else:
            self._found[key] = (asked_at + CACHED_SECONDS, caller)
        return caller

    def _ask(self, text: str) -> Caller | None:
        with self._database.reading() as session:
            token = find_token(session, text)
            return None if token is None else Caller(token.id, Role(token.role))
