"""Requests with retries."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from service.client.errors import ApiError, UnreachableError
from service.client.retries import RETRIED_STATUSES, Retries, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CHUNK_BYTES = 1024 * 1024


class Transport:
    """Requests to one service.

    A request is retried when the connection breaks, when no answer comes in time, and when the service says that it is
    busy or unavailable: at most `retries` times, within `patience` seconds. All retries of a POST carry the same
    Idempotency-Key; the API's other methods are idempotent.
    """

    def __init__(self, http: httpx.Client, *, retries: int, patience: float) -> None:
        self.http = http
        self._retries = retries
        self.patience = patience

    def fetch(self, field: str, method: str, path: str, **options: Any) -> Any:
        """Send a request as `call` does, and return the JSON object of the answer, which must have `field`."""
        response = self.call(method, path, **options)
        answer = _object(response)
        if field not in answer:
            raise _foreign(response)
        return answer

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | Path | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a request and return the answer. A body is sent as JSON, or is the content of a file.

        Parameters of the query that are None are left out. `timeout` in seconds replaces the client's. With `patience`
        the number of retries is not limited, only their time in seconds.

        Raises ApiError if the service refuses, UnreachableError if no answer comes.
        """
        content, content_headers = _content(body)
        request = self.http.build_request(
            method,
            path,
            params={name: _parameter(value) for name, value in (query or {}).items() if value is not None},
            content=content,
            timeout=httpx.Timeout(**self.http.timeout.as_dict() | ({} if timeout is None else {"read": timeout})),
            headers={
                **content_headers,
                **({"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}),
                **(headers or {}),
            },
        )
        retries = Retries(self._retries, self.patience) if patience is None else Retries(None, patience)
        response = self._answer(request, retries, self.http.send)
        if method == "DELETE" and retries.done and response.status_code == HTTPStatus.NOT_FOUND:
            return response  # an earlier try deleted it, but its answer was lost
        return _checked(response, body)

    def save(self, path: str, file: Path) -> httpx.Headers:
        """Write the content at a path to a file, in chunks, and return the headers. Raises as `call` does."""

        def save(request: httpx.Request) -> httpx.Response:
            with closing(self.http.send(request, stream=True)) as response:
                if not response.is_success:
                    response.read()
                    return response
                with file.open("wb") as opened:
                    opened.writelines(response.iter_bytes(CHUNK_BYTES))
                return response

        request = self.http.build_request("GET", path)
        return _checked(self._answer(request, Retries(self._retries, self.patience), save), None).headers

    def _answer(
        self, request: httpx.Request, retries: Retries, send: Callable[[httpx.Request], httpx.Response]
    ) -> httpx.Response:
        while True:
            try:
                response = send(request)
            except httpx.RequestError as error:
                temporary = isinstance(error, httpx.TransportError) and not isinstance(error, httpx.LocalProtocolError)
                if not temporary or not retries.pause():
                    raise UnreachableError(_unreachable(self.http.base_url, error)) from error
                continue
            wait = seconds_of(response.headers.get("retry-after"))
            if response.status_code not in RETRIED_STATUSES or not retries.pause(wait):
                return response


def segment(text: str) -> str:
    """Return text as one segment of a URL's path. Halves of surrogate pairs, which UTF-8 does not have, become "?"."""
    return quote(text, safe="", errors="replace")


def _parameter(value: Any) -> Any:
    """A value of the query, without halves of surrogate pairs."""
    if isinstance(value, list):
        return [_parameter(each) for each in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _content(body: Mapping[str, Any] | Path | None) -> tuple[bytes | _FileContent | None, dict[str, str]]:
    """A body as bytes or chunks of bytes, with its headers."""
    match body:
        case None:
            return None, {}
        case Path():
            size = str(body.stat().st_size)
            return _FileContent(body), {"Content-Type": "application/octet-stream", "Content-Length": size}
        case _:  # the service refuses values that JSON does not have (NaN)
            return json.dumps(body).encode(), {"Content-Type": "application/json"}


class _FileContent:
    """The content of a file; each retry reads it from the beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        """Read chunks."""
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _checked(response: httpx.Response, body: Any) -> httpx.Response:
    if response.is_success:
        return response
    problem = _object(response)
    try:
        error = ApiError(problem, body.name if isinstance(body, Path) else "request")
    except (KeyError, TypeError):
        error = _foreign(response)
    raise error


def _object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty if there is none."""
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _foreign(response: httpx.Response) -> ApiError:
    address = _address(response.request.url)
    detail = f"{address} answered {response.status_code} {response.reason_phrase}; is it Gradfleet?"
    return ApiError({"status": response.status_code, "detail": detail})


def _address(url: httpx.URL) -> str:
    """A URL without a password."""
    return str(url.copy_with(userinfo=b"")).rstrip("/")


def _unreachable(url: httpx.URL, error: httpx.RequestError) -> str:
    address = _address(url)
    if isinstance(error, httpx.ConnectError):
        return f"no service responds at {address}"
    return f"{address} cannot be reached: {error}"
