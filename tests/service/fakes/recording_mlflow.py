"""Replaces MLflow's application behind the door."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

SECRET = "0123456789abcdef" * 4
EXPORT = {"Authorization": f"Bearer {SECRET}"}


class RecordingMlflow:
    """Records the requests that reach it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        assert len(body) == int(request.headers.get("content-length", "0"))
        self.requests.append((scope["method"], scope["path"], body))
        await JSONResponse({"mlflow": True})(scope, receive, send)
