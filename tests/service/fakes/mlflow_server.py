"""A real MLflow server for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx

from tests.service.fixtures.support import free_port

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 60


class MlflowServer:
    """A real MLflow server that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (directory / "server.log").open("wb")

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self.directory}/mlflow.db"),
            *("--artifacts-destination", str(self.directory / "artifacts")),
        ]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < deadline, "MLflow did not start"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = httpx.request(method, f"{self.url}/api/2.0/mlflow/{path}", **arguments)
        answer.raise_for_status()
        return dict(answer.json())

    def runs_of(self, job_id: str, experiment_id: str) -> list[dict[str, Any]]:
        body = {"experiment_ids": [experiment_id], "filter": f"tags.`gradfleet.job_id` = '{job_id}'"}
        return list(self.call("POST", "runs/search", json=body).get("runs", []))

    def history(self, run_id: str, name: str) -> list[dict[str, Any]]:
        query = {"run_id": run_id, "metric_key": name, "max_results": "25000"}
        return list(self.call("GET", "metrics/get-history", params=query).get("metrics", []))
