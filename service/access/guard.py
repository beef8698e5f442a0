"""Lets nobody in without a token, below the framework: a route that is added later is guarded like the others."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers

from service.access.lookup import TokenLookup
from service.access.rate import RateLimit
from service.access.tokens import Role
from service.http.problems import no_database, problem_response
from service.store.database import does_not_answer

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.access.lookup import Caller
    from service.store import Database

# Probes have no token, and the API's description is no secret. All else, also what is not there, needs one.
OPEN = {"/", "/docs", "/openapi.json", "/healthz", "/readyz"}
OPEN_BELOW = "/docs/"

# Deleting destroys results for good; whatever else is not reading is work that can be stopped.
NEEDED = {"GET": Role.READ, "HEAD": Role.READ, "OPTIONS": Role.READ, "DELETE": Role.ADMIN}

CHALLENGE = 'Bearer realm="gradfleet"'


def needed_role(method: str) -> Role:
    """Role that a token needs for a method of HTTP."""
    return NEEDED.get(method, Role.SUBMIT)


class TokenGuard:
    """ASGI middleware that answers 401 without a token in the database, and 403 to one whose role is too low.

    A token that asks more often than `requests_per_second` is answered 429.
    """

    def __init__(self, app: ASGIApp, database: Database, requests_per_second: float) -> None:
        self.app = app
        self.lookup = TokenLookup(database)
        self.requests_per_second = requests_per_second
        self.rate = RateLimit(requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(OPEN_BELOW):
            await self.app(scope, receive, send)
            return
        await (await self._refusal(scope) or self.app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        try:
            caller = await self.lookup.find(token.strip()) if scheme.lower() == "bearer" else None
        except SQLAlchemyError as error:
            # The framework's handlers are within this layer.
            if does_not_answer(error):
                return no_database(scope["method"], scope["path"], error)
            raise
        return _nobody(scope, sent=bool(scheme)) if caller is None else self._limit(scope, caller)

    def _limit(self, scope: Scope, caller: Caller) -> Response | None:
        if wait := self.rate.take(caller.token_id):
            return problem_response(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"This token may make {self.requests_per_second:g} requests per second; ask again in {wait:.2g} s.",
                instance=scope["path"],
                headers={"Retry-After": str(math.ceil(wait))},
            )
        needed = needed_role(scope["method"])
        if caller.role.includes(needed):
            return None
        return problem_response(
            HTTPStatus.FORBIDDEN,
            f"{scope['method']} needs a token with the role {needed}; this one's role is {caller.role}.",
            instance=scope["path"],
            headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'},
        )


def _nobody(scope: Scope, *, sent: bool) -> Response:
    """The answer to who has no token, or `sent` one that is none."""
    if sent:
        challenge = f'{CHALLENGE}, error="invalid_token"'
        detail = "There is no such token, or it is revoked; `gradfleet tokens list` shows the tokens there are."
    else:
        challenge = CHALLENGE
        detail = (
            "A token is needed: send the header 'Authorization: Bearer TOKEN', or set GRADFLEET_TOKEN for the "
            "client and the command line. `gradfleet tokens add` makes one, on the service's machine."
        )
    headers = {"WWW-Authenticate": challenge}
    return problem_response(HTTPStatus.UNAUTHORIZED, detail, instance=scope["path"], headers=headers)
