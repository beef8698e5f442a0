"""Server-sent events."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEDIA_TYPE = "text/event-stream"
# The service sends something every 15 s: after twice as long, the connection is considered dead.
SILENCE_SECONDS = 30.0
# After the service has refused a stream, none is requested for this long.
RETRY_SECONDS = 30.0
# Status codes that do not mean refusal: no more events, or a proxy could not reach the service.
NOT_REFUSED = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
HEARTBEAT = "heartbeat"
LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Message(NamedTuple):
    """One message. `id` is None if it has none. A comment becomes an empty message with the event `heartbeat`."""

    id: str | None
    event: str
    data: str


class Streams:
    """Event streams of one service."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._next_try = 0.0

    def messages(self, path: str, last_id: str | None) -> Iterator[Message]:
        """Iterate over the messages after the one with `last_id`, until the stream ends, breaks or is refused.

        The iterator ends the same way in each case: the caller then fetches the current state, and calls again.
        """
        if time.monotonic() < self._next_try:
            return
        headers = {"Accept": MEDIA_TYPE} | ({} if last_id is None else {"Last-Event-ID": last_id})
        try:
            with self._http.stream("GET", path, headers=headers, timeout=SILENCE_SECONDS) as response:
                if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
                    yield from decode(response.iter_bytes())
                elif response.status_code not in NOT_REFUSED:
                    self._next_try = time.monotonic() + RETRY_SECONDS
        except httpx.TransportError:
            return


def decode(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Decode a stream that arrives in chunks. An incomplete message at the end is dropped."""
    identity: str | None = None
    event = ""
    data: list[str] = []
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if line:
                yield Message(None, HEARTBEAT, "")
            case "":
                if data:
                    yield Message(identity, event or "message", "\n".join(data))
                identity, event, data = None, "", []
            case "id":
                identity = value
            case "event":
                event = value
            case "data":
                data.append(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Iterate over the complete lines. A carriage return at the end of a chunk may be half of a line's end."""
    rest = b""
    for chunk in chunks:
        *lines, rest = LINE_END.split(rest + chunk)
        yield from (line.decode(errors="replace") for line in lines)
