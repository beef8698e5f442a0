"""Two `gradfleet serve` with PostgreSQL, a Ray head and an MLflow server: real processes that can be killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

import psycopg

from service.client import ApiError, Client, UnreachableError
from service.processes import die_with_parent
from service.settings import Settings
from service.stack.mlflow_server import MlflowServer
from tests.chaos.gates import GATES
from tests.e2e.stack import MARK, marked_processes, wait_until
from tests.fixtures.postgres import PostgresServer
from tests.service.fixtures.support import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

CPUS = 10
ROOT = Path(__file__).parents[2]
# Seconds after which a process hangs. A cell takes 10 s alone and more than 80 s beside the other tests.
PATIENCE = 300.0


class Serve:
    """A `gradfleet serve` on its own port, with gates at its commits."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self._port = free_port()
        self.client = Client(f"http://127.0.0.1:{self._port}", timeout=40, retries=0)  # `request` retries
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.gates", "serve", "--port", str(self._port)],
                cwd=ROOT,
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509  it takes no lock
            )

    def kill(self) -> None:
        assert self.process.poll() is None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.client.close()

    def restart_if_ended(self) -> None:
        if self.process.poll() is not None:
            self.start()


class RayHead:
    """`ray start --head --block`, which ends when its GCS ends, as a container does."""

    def __init__(self, directory: str, log: Path, mark: str) -> None:
        self._directory, self._log, self._mark = directory, log, mark
        self.port = free_port()
        self.start()

    def start(self) -> None:
        options = {
            "port": self.port,
            "num-cpus": CPUS,
            "include-dashboard": "false",
            "temp-dir": self._directory,
            "object-store-memory": 100 * 1024 * 1024,
            "node-ip-address": "127.0.0.1",
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                cwd=ROOT,
                env=os.environ | {MARK: self._mark, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509  it takes no lock
            )

    def kill(self) -> None:
        """Kill the GCS, and then the other processes of the head."""
        (gcs,) = self.pids("gcs/gcs_server ")
        os.kill(gcs, signal.SIGKILL)
        self.process.wait(60)
        for process in self.pids(self._directory):
            os.kill(process, signal.SIGKILL)

    def pids(self, title: str) -> list[int]:
        return [int(process.split()[0]) for process in marked_processes(self._mark) if title in process]

    def stop(self) -> None:
        """Kill everything: on SIGTERM, Ray would wait 30 s for its workers."""
        self.process.kill()
        self.process.wait()
        for process in self.pids(""):
            os.kill(process, signal.SIGKILL)


class Deployment:
    """A context manager that starts all processes and waits until one of the two services is the leader."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.data_dir, self.gates = directory / "data", directory / "gates"
        self.mark = uuid.uuid4().hex
        self._directory, self._programs = directory, programs
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            (self.data_dir / "uploads").mkdir(parents=True)
            self.gates.mkdir()
            self.postgres = PostgresServer(self._programs, durable=True)
            self.postgres.start()
            stack.callback(self.postgres.remove)
            self.database_url = self.postgres.create_database()
            with patch("service.stack.mlflow_server.USUAL_PORT", 0):  # other programs may use that port
                self.mlflow = stack.enter_context(MlflowServer(Settings(data_dir=self.data_dir)))
            short = stack.enter_context(TemporaryDirectory(prefix="gradfleet-", ignore_cleanup_errors=True))
            self.ray = RayHead(short, self._directory / "ray.log", self.mark)
            stack.callback(self.ray.stop)
            environment = {
                GATES: str(self.gates),
                MARK: self.mark,
                "GRADFLEET_DATA_DIR": str(self.data_dir),
                "GRADFLEET_DATABASE_URL": self.database_url,
                "GRADFLEET_MLFLOW_URL": self.mlflow.url,
                "GRADFLEET_MLFLOW_SECRET": self.mlflow.secret,
                "GRADFLEET_RAY_ADDRESS": f"127.0.0.1:{self.ray.port}",
            }
            self.services = [Serve(environment, self._directory / f"serve{number}.log") for number in range(2)]
            for service in self.services:
                stack.callback(service.close)
            self.mlflow.wait_until_ready(PATIENCE)
            wait_until(self.leader, PATIENCE, "a service becomes the leader")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services:
            service.process.terminate()
            assert service.process.wait(30) == 0
        self._stack.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def lease(self) -> tuple[int | None, int]:
        """The process that holds the lease, and the lease's token."""
        try:
            ((holder, token),) = self.query("SELECT holder, token FROM leases")
        except (psycopg.Error, ValueError):  # the tables are being created
            return None, 0
        return int(re.split(":", holder)[1]) if holder else None, token

    def leader(self) -> Serve | None:
        holder, _ = self.lease()
        return next((service for service in self.services if service.process.pid == holder), None)

    def other(self) -> Serve:
        """A service that is not the leader."""
        leader = self.leader()
        return next(service for service in self.services if service is not leader)

    def request(self, call: Callable[[Client], Any]) -> Any:
        """Send a request. While a service is unavailable, it is sent to the other one, as by a user who retries."""
        deadline = time.monotonic() + PATIENCE
        attempt = 0
        while True:
            attempt += 1
            try:
                return call(self.services[attempt % 2].client)
            except (UnreachableError, ApiError) as error:
                if isinstance(error, ApiError) and error.problem["status"] != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def restart_ended(self) -> None:
        """Start services again that have ended by themselves, as an operator does."""
        for service in self.services:
            service.restart_if_ended()
