"""The MLflow server of the embedded stack, as a child process on SQLite."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

import httpx

from service.client.http import http_client
from service.processes import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

HOST = "127.0.0.1"
USUAL_PORT = 5000
STOP_TIMEOUT = 5.0  # seconds; what it has answered is in its database

log = logging.getLogger(__name__)


class MlflowServer:
    """An MLflow server below a data directory, on MLflow's usual port or another free one.

    A context manager: entering starts it without waiting, leaving stops it and all that it has started.
    """

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / "mlflow"
        self._log = data_dir / "logs" / "mlflow.log"
        self._port = _free_port()
        self.url = f"http://{HOST}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(exist_ok=True)
        self._log.parent.mkdir(exist_ok=True)
        self._start()
        return self

    def _start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--host", HOST, "--port", str(self._port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self._directory / 'mlflow.db'}"),
            *("--artifacts-destination", str(self._directory / "artifacts")),
        ]
        # Not for it: the database's password, a token.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADFLEET_")} | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # five more processes, for scoring language models
        }
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for this process, which then stops the server
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until the server answers; TimeoutError after `timeout` seconds, RuntimeError when it has ended."""
        deadline = time.monotonic() + timeout
        with http_client(self.url, timeout=1) as client:
            while not _answers(client):
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"the MLflow server ended while it started; see {self._log}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the MLflow server did not answer within {timeout:g} s; see {self._log}")
                time.sleep(0.1)

    def restart_if_ended(self) -> None:
        """Start the server again when it has ended by itself; what was not told yet it is told then."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("the MLflow server has ended (exit status %d); starting it again", self._process.returncode)
            self._start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        # The server is the leader of its own group, in which its worker processes are, too.
        _signal_group(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.warning("the MLflow server did not stop within %g s", STOP_TIMEOUT)
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(group, number)


def _free_port() -> int:
    for port in (USUAL_PORT, 0):
        try:
            with socket.create_server((HOST, port)) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise OSError(f"no port is free on {HOST}")
