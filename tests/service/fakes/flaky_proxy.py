"""A proxy that simulates network faults in the order that a test specifies."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Disconnect:
    """Close the connection without forwarding the request."""


@dataclass(frozen=True)
class LoseResponse:
    """Forward the request and drop the response."""


@dataclass(frozen=True)
class Respond:
    """Respond with this status without forwarding the request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Forward the request and close the connection after this many bytes of the response."""

    after: int


@dataclass(frozen=True)
class Slow:
    """Forward the request and delay the response."""

    seconds: float


Fault = Disconnect | LoseResponse | Respond | Cut | Slow


@dataclass
class FlakyProxy:
    """`faults` apply to the next requests, one each; None forwards the request. Later requests get `always`.

    `seen` are all requests in the order of their arrival.
    """

    upstream: str
    url: str = ""
    faults: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            self.seen.append((method, path, headers))
            return self.faults.pop(0) if self.faults else self.always


@contextmanager
def flaky(upstream: str) -> Iterator[FlakyProxy]:
    """A proxy in front of the server at `upstream`."""
    proxy = FlakyProxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault = proxy.take(self.command, self.path, headers)
            if isinstance(fault, Disconnect):
                return
            if isinstance(fault, Respond):
                self.send_response(fault.status)
                for name, value in {**fault.headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            try:
                self.forward(headers, body, fault)
            except (BrokenPipeError, ConnectionResetError, httpx.TransportError):
                return

        def forward(self, headers: dict[str, str], body: bytes, fault: Fault | None) -> None:
            passed = {name: value for name, value in headers.items() if name not in {"host", "connection"}}
            url = proxy.upstream + self.path
            with httpx.stream(self.command, url, headers=passed, content=body, timeout=None) as answer:
                if isinstance(fault, LoseResponse):
                    answer.read()
                    return
                if isinstance(fault, Slow):
                    time.sleep(fault.seconds)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name not in {"transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, value)
                self.end_headers()
                left = fault.after if isinstance(fault, Cut) else None
                for chunk in answer.iter_raw():
                    self.wfile.write(chunk[:left])
                    self.wfile.flush()
                    left = None if left is None else left - len(chunk)
                    if left is not None and left <= 0:
                        return

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
