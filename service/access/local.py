"""Protection from other sites' pages in a browser: host names and origins."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.addresses import is_loopback
from service.http.problems import problem_response

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+))(?::\d*)?", re.IGNORECASE)
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class LocalOnly:
    """ASGI middleware that accepts only requests for this machine's names, from no page but the service's own.

    A site can resolve its own name to 127.0.0.1 (DNS rebinding): the request then has that name as its Host, and gets
    421. A site can also post to 127.0.0.1 without reading the response (CSRF), which gets 403.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]) -> None:
        self.app = app
        self.allowed_hosts = {name.lower() for name in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not all(map(self._is_allowed, headers.getlist("host") or [""])):
            status = HTTPStatus.MISDIRECTED_REQUEST
            detail = (
                "Only the names of this machine are accepted here: localhost, 127.0.0.1, [::1]. "
                "To allow another name, set GRADFLEET_ALLOWED_HOSTS='[\"NAME\"]'."
            )
        elif scope["method"] not in SAFE_METHODS and _is_cross_origin(headers):
            status = HTTPStatus.FORBIDDEN
            detail = (
                "The request comes from a page of another site. Use the command line, the client or a page of this "
                "service."
            )
        else:
            await self.app(scope, receive, send)
            return
        await problem_response(status, detail, instance=scope["path"])(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        match = HOST.fullmatch(host)
        name = (match["ipv6"] or match["name"]).lower() if match else ""
        return is_loopback(name) or name in self.allowed_hosts


def _is_cross_origin(headers: Headers) -> bool:
    """Whether a browser sends the request for a page of another origin; other clients send neither header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower()
