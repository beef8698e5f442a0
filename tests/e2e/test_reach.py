"""The ports of a running stack, and who can use them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from service.processes import children_of
from service.stack.ray_certificate import write_certificate
from tests.e2e.stack import digits_job, marked_processes, wait_until
from tests.fixtures.grpc_client import REQUEST, accepts_grpc, client_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client, Job
    from tests.e2e.stack import Stack

LISTENS = "0A"  # a state in /proc/net/tcp
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}

# A client of Ray's head node. With access to the head node, a client can run any code.
CALL_RAY = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_get(b"key", b"namespace", timeout=10)
"""


def processes(stack: Stack) -> set[int]:
    """Ids of the stack's processes and their descendants: Ray's agents overwrite their environment, and so the mark."""
    found, left = set[int](), [int(process.split()[0]) for process in marked_processes(stack.mark)]
    while left:
        found.add(process := left.pop())
        left += set(children_of(process)) - found
    return found


def listening(stack: Stack) -> dict[int, str]:
    """The ports of the stack's processes, with the addresses in hexadecimal."""
    sockets = set()
    for process in processes(stack):
        with suppress(FileNotFoundError, ProcessLookupError):
            for entry in Path("/proc", str(process), "fd").iterdir():
                with suppress(FileNotFoundError):
                    sockets.add(str(entry.readlink()))
    found = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and f"socket:[{inode}]" in sockets:
                address, _, port = local.partition(":")
                found[int(port, 16)] = address
    return found


def head_node(stack: Stack) -> tuple[int, dict[str, str]]:
    """Process id and environment of Ray's head node."""
    ((number, *_),) = (words for words in map(str.split, marked_processes(stack.mark)) if "gcs_server" in words[1])
    environment = Path("/proc", number, "environ").read_text().split("\0")
    return int(number), dict(variable.split("=", 1) for variable in environment if variable)


def test_no_port_can_be_reached_from_other_machines(stack: Stack) -> None:
    ports = listening(stack)
    assert len(ports) >= 4, "the API, MLflow, and at least two ports of Ray"
    assert set(ports.values()) <= LOOPBACK


@pytest.fixture
def running(client: Client) -> Iterator[Job]:
    """A job whose workers run until the test has ended."""
    job = client.submit(digits_job(training={"epochs": 100_000, "batch_size": 128, "seed": 7, "shards": 4}))
    wait_until(lambda: job.refresh()["state"] == "running", 60, "the job runs")
    yield job
    job.cancel().wait(timeout=60, raise_on_failure=False)


@pytest.mark.timeout(600)
def test_ray_accepts_only_processes_with_its_certificate(stack: Stack, running: Job, tmp_path: Path) -> None:
    """Without a certificate, the request would end the head node, and the job's attempt with it."""
    number, environment = head_node(stack)
    own = client_context(environment)
    known = {urlsplit(url).port for url in (stack.api_url, stack.mlflow_url)}

    def without_tls() -> set[int] | None:
        found = {port for port in listening(stack) if port not in known and not accepts_grpc(port, own)}
        return found if len(found) == 1 else None

    # Ray's agent that prepares workers; it may start after the first workers, and slowly on a busy machine. So may
    # workers, which do not answer yet.
    (agent,) = wait_until(without_tls, 300, "the agent listens, and all other ports require a certificate")
    of_ray = listening(stack).keys() - known - {agent}
    assert len(of_ray) >= 6, "the head node, two of the raylet, the service's process, and two workers"
    for stranger in (None, client_context(), client_context(write_certificate(tmp_path / "foreign", "another"))):
        assert [port for port in of_ray if accepts_grpc(port, stranger, request=REQUEST)] == []
    assert httpx.post(f"http://127.0.0.1:{agent}/get_runtime_envs_info").status_code == 401
    assert head_node(stack)[0] == number
    assert running.refresh()["state"] == "running"
    assert len(running["attempts"]) == 1


@pytest.mark.parametrize(
    "token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed" * 6}], ids=["no token", "another token"]
)
def test_ray_refuses_clients_without_its_token(stack: Stack, token: dict[str, str]) -> None:
    (address, *_) = re.findall(r"--gcs-address=(\S+)", "\n".join(marked_processes(stack.mark)))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    tls = {name: value for name, value in head_node(stack)[1].items() if "_TLS" in name}
    result = subprocess.run(
        [sys.executable, "-c", CALL_RAY, address],
        env=own | tls | token,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "AuthenticationError" in result.stderr


def test_mlflow_refuses_the_name_of_another_machine(stack: Stack) -> None:
    rebound = httpx.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": "evil.example"}
    )
    assert rebound.status_code == 421


def test_mlflow_has_no_route_that_runs_programs(stack: Stack) -> None:
    config = {"providers": {"openai": {"base_url": "http://127.0.0.1:9/v1"}}}
    answer = httpx.put(f"{stack.mlflow_url}/ajax-api/3.0/mlflow/assistant/config", json=config)
    assert answer.status_code == 404
