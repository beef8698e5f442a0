"""Calls that repeat themselves until they are answered."""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from service.client.errors import ApiError, UnreachableError
from service.client.retries import RETRIED_STATUSES, Retries, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


BLOCK_BYTES = 1024 * 1024


class Transport:
    """Calls of one service.

    A call is repeated when the connection breaks, when no answer comes in time, and when the service says that it is
    busy or not there; at most `retries` times, and within `patience` seconds. A POST carries an Idempotency-Key, one
    for all repetitions; the API's other methods are idempotent by nature.
    """

    def __init__(self, http: httpx.Client, *, retries: int, patience: float) -> None:
        self.http = http
        self._retries = retries
        self.patience = patience

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        file: Path | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
        silence: float | None = None,
    ) -> httpx.Response:
        """The answer to a request with JSON or a file for a body; parameters of the query that are None are left out.

        `silence` is for how many seconds the service may say nothing, where that is not the client's timeout. With a
        `patience` of its own it puts up with a service that is away for so many seconds, however many retries that
        takes.
        Raises ApiError for a refusal, UnreachableError when no answer came.
        """
        request = self.http.build_request(
            method,
            path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            # What JSON cannot hold (NaN) is for the service to refuse, in its own words.
            content=_FileContent(file) if file else None if body is None else json.dumps(body).encode(),
            timeout=httpx.Timeout(**self.http.timeout.as_dict() | ({} if silence is None else {"read": silence})),
            headers={
                **({} if body is None else {"Content-Type": "application/json"}),
                **({} if file is None else _file_headers(file)),
                **({"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}),
                **(headers or {}),
            },
        )
        retries = Retries(self._retries, self.patience) if patience is None else Retries(None, patience)
        while True:
            try:
                response = self.http.send(request)
            except httpx.TransportError as error:
                # The other two would be the same again.
                hopeless = isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))
                if hopeless or not retries.pause():
                    raise UnreachableError(_unreachable(self.http.base_url, error)) from error
                continue
            if method == "DELETE" and retries.done and response.status_code == HTTPStatus.NOT_FOUND:
                return response  # an earlier try has deleted it, and its answer was lost
            wait = seconds_of(response.headers.get("retry-after"))
            if response.status_code not in RETRIED_STATUSES or not retries.pause(wait):
                return _checked(response)


def _file_headers(file: Path) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}


class _FileContent:
    """A file's content, read again from its beginning for each repetition."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of it."""
        with self._path.open("rb") as file:
            while piece := file.read(BLOCK_BYTES):
                yield piece


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        raise ApiError(response.json())
    detail = f"{response.request.url} answered {response.status_code} {response.reason_phrase}; is it Gradfleet?"
    raise ApiError({"status": response.status_code, "detail": detail})


def _unreachable(url: httpx.URL, error: httpx.TransportError) -> str:
    address = str(url).rstrip("/")
    if isinstance(error, httpx.ConnectError):
        return f"nothing answers at {address}"
    return f"{address} could not be asked: {error}"
