"""The embedded stack's MLflow server behind its door: a child process, with its data in SQLite."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

import httpx

from service.client.http import http_client
from service.processes import child_environment, die_with_parent
from service.stack.control_plane import StartError

if TYPE_CHECKING:
    from types import TracebackType

    from service.settings import Settings

HOST = "127.0.0.1"
USUAL_PORT = 5000
# Requests are not logged, because their query may contain a token. The server takes its socket from its standard input.
UVICORN_OPTIONS = (
    "--no-access-log --no-proxy-headers --no-server-header --ws none --lifespan off "
    "--http service.dashboard.protocol:protocol --fd 0"
)
STOP_TIMEOUT = 5.0  # seconds; every request that it has answered is in its database

log = logging.getLogger(__name__)


class MlflowServer:
    """An MLflow server with its files in a data directory, on MLflow's usual port or, if that is taken, a free one.

    A context manager: entering starts the server without waiting for it, leaving stops it and its child processes.
    `secret` is new for each instance. It authorizes a client to write runs.
    """

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.data_dir / "mlflow"
        self._log = settings.data_dir / "logs" / "mlflow.log"
        self._settings = settings
        self.secret = secrets.token_urlsafe(32)
        self.url = ""
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(exist_ok=True)
        self._log.parent.mkdir(exist_ok=True)
        # Open until the end: no other account can take the port before the server has started, or after it has ended,
        # and receive the secret.
        self._listener = _listen()
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self._start()
        return self

    def _start(self) -> None:
        assert self._listener is not None  # noqa: S101
        command = [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--workers", "1"),
            # Relative to its directory: MLflow would interpret some characters of an absolute path.
            *("--backend-store-uri", "sqlite:///mlflow.db"),
            *("--artifacts-destination", "artifacts"),
            *("--app-name", "gradfleet", "--uvicorn-opts", UVICORN_OPTIONS),
        ]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=self._directory,  # uvicorn, which MLflow starts, imports modules from its working directory
                env=self._environment(),
                stdin=self._listener.fileno(),  # MLflow passes no other file on to Uvicorn
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops the server
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )

    def _environment(self) -> dict[str, str]:
        """The child's environment, which only this account can read; every account can read a command line."""
        settings = self._settings
        # Variables for MLflow's client, or for another MLflow server of this account.
        kept = {name: value for name, value in child_environment().items() if "MLFLOW" not in name}
        environment = kept | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # five more processes, for scoring language models
            "GRADFLEET_MLFLOW_SECRET": self.secret,
            "GRADFLEET_ALLOWED_HOSTS": json.dumps(settings.allowed_hosts),
            "GRADFLEET_REQUIRE_TOKEN": str(settings.requires_token),
            "GRADFLEET_REQUESTS_PER_SECOND": str(settings.requests_per_second),
            "GRADFLEET_MAX_CONNECTIONS": str(settings.max_connections),
        }
        # The tokens are in the service's database.
        return environment | ({"GRADFLEET_DATABASE_URL": settings.database} if settings.requires_token else {})

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until the server answers. Raises StartError after `timeout` seconds, or if it has ended."""
        deadline = time.monotonic() + timeout
        if self._process is None:
            raise StartError("the MLflow server was not started")
        with http_client(self.url, timeout=1) as client:
            while not _answers(client):
                if self._process.poll() is not None:
                    raise StartError(f"the MLflow server ended while it started; see {self._log}")
                if time.monotonic() > deadline:
                    raise StartError(f"the MLflow server did not answer within {timeout:g} s; see {self._log}")
                time.sleep(0.1)

    def restart_if_ended(self) -> None:
        """Restart the server if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("the MLflow server has ended (exit status %d); restarting it", self._process.returncode)
            self._start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._process is None:
            return
        # The server leads a process group of its own, which contains its worker processes.
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
    with contextlib.suppress(ProcessLookupError):  # every process of the group has ended
        os.killpg(group, number)


def _listen() -> socket.socket:
    for port in (USUAL_PORT, 0):
        with contextlib.suppress(OSError):  # the port is in use
            return socket.create_server((HOST, port))
    raise OSError(f"no free port on {HOST}")
