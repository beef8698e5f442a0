"""Server-sent events: how they are read, and what happens where there are none."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MEDIA_TYPE = "text/event-stream"
# The service sends something every 15 s; twice as long without a word, and the connection is dead.
SILENCE_SECONDS = 30.0
# For how long no stream is asked for after the service refused one.
REFUSED_SECONDS = 30.0
# There is no more to come; or the request has not arrived.
NO_REFUSALS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
HEARTBEAT = "heartbeat"
LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Message(NamedTuple):
    """One message; `id` is None where it has none, and a comment comes as an empty one of the kind `heartbeat`."""

    id: str | None
    event: str
    data: str


class Streams:
    """The event streams of one service, as long as it gives any."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._again = 0.0

    def messages(self, path: str, last_id: str | None) -> Iterator[Message]:
        """Messages after the one with `last_id`, until the stream ends, breaks off, or is refused.

        It does not say which: the caller asks what has become of things meanwhile, and then for the rest.
        """
        if time.monotonic() < self._again:
            return
        headers = {"Accept": MEDIA_TYPE} | ({} if last_id is None else {"Last-Event-ID": last_id})
        try:
            with self._http.stream("GET", path, headers=headers, timeout=SILENCE_SECONDS) as response:
                if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
                    yield from decode(response.iter_bytes())
                elif response.status_code not in NO_REFUSALS:
                    self._again = time.monotonic() + REFUSED_SECONDS
        except httpx.TransportError:
            return


def decode(chunks: Iterable[bytes]) -> Iterator[Message]:
    """The messages of a stream that comes in pieces; one that is cut off by the end is none."""
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
    """The lines that have come in full. A carriage return at the end of a chunk may be half of a line's end."""
    rest = b""
    for chunk in chunks:
        *lines, rest = LINE_END.split(rest + chunk)
        yield from (line.decode(errors="replace") for line in lines)
