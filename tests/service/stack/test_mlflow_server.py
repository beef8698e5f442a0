from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest

from service.settings import Settings
from service.stack.control_plane import StartError
from service.stack.mlflow_server import MlflowServer

if TYPE_CHECKING:
    from pathlib import Path


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


def test_requests_to_the_server_bypass_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no server listens here
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Healthy) as healthy_server:
        thread = threading.Thread(target=healthy_server.serve_forever)
        thread.start()
        try:
            server = MlflowServer(Settings(data_dir=tmp_path))
            server._process = MagicMock()  # it runs
            server.url = f"http://127.0.0.1:{healthy_server.server_port}"
            server.wait_until_ready(5)
        finally:
            healthy_server.shutdown()
            thread.join()


def test_a_server_that_is_not_running_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="the MLflow server was not started"):
        MlflowServer(Settings(data_dir=tmp_path)).wait_until_ready(5)
