"""Authentication and authorization by token, as ASGI middleware, so that it covers every route."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers

from service.access.lookup import TokenLookup
from service.access.rate import RateLimit
from service.access.tokens import Role
from service.http.limits import answer_early
from service.http.problems import no_database, problem_response
from service.store.database import is_unavailable

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.access.lookup import Caller
    from service.store import Database

# Probes have no token, and the API's description is public. Every other path needs one, whether it exists or not.
OPEN = {"/", "/docs", "/openapi.json", "/healthz", "/readyz"}
OPEN_BELOW = "/docs/"

# Deleting cannot be undone; any other request that does not read is work that can be cancelled.
NEEDED = {"GET": Role.READ, "HEAD": Role.READ, "OPTIONS": Role.READ, "DELETE": Role.ADMIN}

# A long request is ended, at the next message that it sends or receives, when its token is revoked.
CHECK_SECONDS = 5.0
REVOKED = "The token has been revoked."


def needed_role(method: str) -> Role:
    """Role that a token needs for an HTTP method."""
    return NEEDED.get(method, Role.SUBMIT)


class TokenGuard:
    """ASGI middleware that responds 401 without a valid token, and 403 to a token whose role is too low.

    A token with more than `requests_per_second` requests gets 429. A subclass can accept tokens in other headers.
    """

    challenge = 'Bearer realm="gradfleet"'
    advice = (
        "A token is needed: send the header 'Authorization: Bearer TOKEN', or set GRADFLEET_TOKEN for the "
        "client and the command line. `gradfleet tokens add` creates one, on the service's machine."
    )

    def __init__(self, app: ASGIApp, database: Database, requests_per_second: float) -> None:
        self.app = app
        self.lookup = TokenLookup(database)
        self.requests_per_second = requests_per_second
        self.rate = RateLimit(requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        needed = self.needed(scope) if scope["type"] == "http" else None
        if needed is None:
            await self.app(scope, receive, send)
            return
        authorization = Headers(scope=scope).get("authorization", "")
        token = self.token(authorization)
        if refusal := await self._refusal(scope, needed, token, sent=bool(authorization)):
            await refusal(scope, receive, send)
            return
        request = _LongRequest(self.lookup, token or "", receive, send)
        await self.app(scope, request.receive, request.send)
        if request.unanswered:
            answer = self._unauthenticated(scope, sent=True)
            answer.headers["connection"] = "close"
            await answer_early(answer, receive, send, more=request.more)

    def needed(self, scope: Scope) -> Role | None:
        """Role that a token needs for a request; None if the request needs no token."""
        opened = scope["path"] in OPEN or scope["path"].startswith(OPEN_BELOW)
        return None if opened else needed_role(scope["method"])

    def token(self, authorization: str) -> str | None:
        """The token in an `Authorization` header; None if the header has another scheme."""
        scheme, _, token = authorization.partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    async def _refusal(self, scope: Scope, needed: Role, token: str | None, *, sent: bool) -> Response | None:
        try:
            caller = await self.lookup.find(token) if token else None
        except SQLAlchemyError as error:
            # The framework's error handlers are inside this middleware.
            if is_unavailable(error):
                return no_database(scope["method"], scope["path"], error)
            raise
        return self._unauthenticated(scope, sent=sent) if caller is None else self._limit(scope, caller, needed)

    def _limit(self, scope: Scope, caller: Caller, needed: Role) -> Response | None:
        if wait := self.rate.take(caller.token_id):
            return problem_response(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"This token may make {self.requests_per_second:g} requests per second; try again in {wait:.2g} s.",
                instance=scope["path"],
                headers={"Retry-After": str(math.ceil(wait))},
            )
        if caller.role.includes(needed):
            return None
        return problem_response(
            HTTPStatus.FORBIDDEN,
            f"{scope['method']} needs a token with the role {needed}; this one's role is {caller.role}.",
            instance=scope["path"],
            headers={"WWW-Authenticate": f'{self.challenge}, error="insufficient_scope", scope="{needed}"'},
        )

    def _unauthenticated(self, scope: Scope, *, sent: bool) -> Response:
        """401 response without a token, or if an invalid one was `sent`."""
        challenge, detail = self.challenge, self.advice
        if sent:
            challenge = f'{self.challenge}, error="invalid_token"'
            detail = "The token does not exist or is revoked; `gradfleet tokens list` shows all tokens."
        headers = {"WWW-Authenticate": challenge}
        return problem_response(HTTPStatus.UNAUTHORIZED, detail, instance=scope["path"], headers=headers)


class _LongRequest:
    """Receives and sends the messages of a request until its token is revoked.

    A request whose body is still arriving then ends for the application as if the client had disconnected, an event
    stream after a last event `unauthorized`. `unanswered` means that the application's response was not sent; `more`,
    that there is more of the body.
    """

    def __init__(self, lookup: TokenLookup, token: str, receive: Receive, send: Send) -> None:
        self._lookup, self._token = lookup, token
        self._receive, self._send = receive, send
        self._checked_at = monotonic()
        self._last = b""  # sent last if the token is revoked: an event in an event stream, otherwise nothing
        self._started = self._ended = False
        self.unanswered, self.more = False, False

    async def receive(self) -> Message:
        """The next message of the client."""
        message = {"type": "http.disconnect"} if self._ended else await self._receive()
        if message["type"] == "http.disconnect" or not await self._is_revoked():
            return message
        if not self._started:
            self._ended = self.unanswered = True
            self.more = bool(message.get("more_body"))
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a message of the application, or the last one."""
        if self._ended:
            return
        if message["type"] == "http.response.start":
            self._started = True
            if Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream"):
                problem = {"status": HTTPStatus.UNAUTHORIZED, "title": "Unauthorized", "detail": REVOKED}
                self._last = format_sse_event(event="unauthorized", data_str=json.dumps(problem))
        elif message.get("more_body") and await self._is_revoked():
            self._ended = True
            await self._send({"type": "http.response.body", "body": self._last, "more_body": False})
            return
        await self._send(message)

    async def _is_revoked(self) -> bool:
        if monotonic() - self._checked_at < CHECK_SECONDS:
            return False
        try:
            caller = await self._lookup.find(self._token)
        except SQLAlchemyError as error:
            if is_unavailable(error):
                return False  # checked again at the next message
            raise
        if caller is not None:
            self._checked_at = monotonic()
        return caller is None
