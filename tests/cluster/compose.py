"""The Compose cluster as a user starts it, with its own project name, secrets and ports."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.client import Client
from tests.e2e.stack import wait_until
from tests.service.fixtures.support import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 600
RECOVERY_SECONDS = 180


def missing_requirement() -> str | None:
    """What is missing for a cluster on this machine."""
    if compose_command() is None:
        return "neither docker compose nor docker-compose is installed"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "the Docker engine does not answer"
    return None


def compose_command() -> list[str] | None:
    """The command of Compose v2 if it is installed, else of docker-compose 1.29."""
    if shutil.which("docker") is None:
        return None
    second = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if second.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@dataclass
class Cluster:
    """`docker compose` on a copy of the checkout's deployment files. `down` removes it."""

    project: str
    directory: Path

    def __post_init__(self) -> None:
        for name in ("docker-compose.yml", "deploy"):
            source, copy = ROOT / name, self.directory / name
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
        subprocess.run([self.directory / "deploy" / "write-env"], check=True, capture_output=True)
        self.api_port, mlflow_port = free_port(), free_port()
        with (self.directory / ".env").open("a") as env:
            env.write(f"API_PORT={self.api_port}\nMLFLOW_PORT={mlflow_port}\n")
        self.mlflow_url = f"http://127.0.0.1:{mlflow_port}"

    def compose(self, *arguments: str) -> str:
        command = [*(compose_command() or []), "--project-name", self.project, *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, check=False, timeout=START_SECONDS)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.decode()[-4000:]}"
        return done.stdout.decode()

    def shell(self, script: str) -> None:
        """Run commands from the documentation with this cluster's `docker compose`."""
        compose = " ".join([*(compose_command() or []), "--project-name", self.project])
        lines = script.replace("docker compose", compose)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, f"{lines}\n{done.stderr.decode()[-4000:]}"

    def up(self, *, workers: int) -> None:
        self.compose("up", "--detach", "--no-build", "--scale", f"ray-worker={workers}")

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "30")

    def token(self) -> str:
        lines = (self.directory / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)["GRADFLEET_ADMIN_TOKEN"]

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.api_port}", token=self.token(), patience=RECOVERY_SECONDS)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def crash(self, service: str) -> None:
        """Kill a container's main process as the kernel does when memory runs out, so that its restart policy applies.

        After `docker kill`, Docker would not restart the container.
        """
        container = self.containers(service)[0]
        number, before = inspect(container, "{{.State.Pid}} {{.State.StartedAt}}").split()
        image = ["--pid", "host", "--user", "0", "gradfleet:local"]
        subprocess.run(["docker", "run", "--rm", *image, "sh", "-c", f"kill -9 {number}"], check=True)
        wait_until(lambda: inspect(container, "{{.State.StartedAt}}") != before, 30, f"{service} starts again")

    def wait_until_healthy(self, services: Sequence[str]) -> float:
        """Seconds until every container of the services is healthy."""
        begin = time.monotonic()
        for service in services:
            for container in self.containers(service):
                wait_until(
                    lambda container=container: inspect(container, "{{.State.Health.Status}}") == "healthy",
                    RECOVERY_SECONDS,
                    f"{service} is healthy",
                )
        return time.monotonic() - begin


def inspect(container: str, form: str) -> str:
    done = subprocess.run(
        ["docker", "inspect", "--format", form, container], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def build() -> None:
    """Build the image from this checkout, with Docker's cache."""
    command = ["docker", "build", "--target", "cpu", "--tag", "gradfleet:local", "--file", "deploy/Dockerfile", "."]
    subprocess.run(command, cwd=ROOT, check=True)
