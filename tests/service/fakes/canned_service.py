"""An HTTP server that gives the same answer to every request, or the answer that a function chooses."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Canned(NamedTuple):
    """An answer; without a status the connection is closed."""

    status: int | None
    content: bytes
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def canned_json(value: Any, status: int = 200, media_type: str = "application/json") -> Canned:
    return Canned(status, json.dumps(value).encode(), media_type)


@contextmanager
def canned_service(choose: Callable[[str, str], Canned]) -> Iterator[str]:
    """Serve what `choose` returns for a method and a path; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            canned = choose(self.command, self.path.partition("?")[0])
            if canned.status is not None:
                self.send_response(canned.status)
                self.send_header("Content-Type", canned.media_type)
                self.send_header("Content-Length", str(len(canned.content)))
                for name, value in canned.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(canned.content)
            self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
