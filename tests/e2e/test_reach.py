"""The ports of a running stack, and who can use them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.e2e.stack import marked_processes

if TYPE_CHECKING:
    from tests.e2e.stack import Stack

LISTENS = "0A"  # a state in /proc/net/tcp
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}

# A client of Ray's head node. With access to the head node, a client can run any code.
CALL_RAY = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_get(b"key", b"namespace", timeout=10)
"""


def test_no_port_can_be_reached_from_other_machines(stack: Stack) -> None:
    sockets = set()
    for process in marked_processes(stack.mark):
        for entry in Path("/proc", process.split()[0], "fd").iterdir():
            try:
                sockets.add(str(entry.readlink()))
            except FileNotFoundError:
                continue
    listening = []
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and f"socket:[{inode}]" in sockets:
                listening.append(local.partition(":")[0])
    assert len(listening) >= 4, "the API, MLflow, and at least two ports of Ray"
    assert set(listening) <= LOOPBACK


@pytest.mark.parametrize(
    "environment", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed" * 6}], ids=["no token", "another token"]
)
def test_ray_refuses_clients_without_its_token(stack: Stack, environment: dict[str, str]) -> None:
    (address, *_) = re.findall(r"--gcs-address=(\S+)", "\n".join(marked_processes(stack.mark)))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    result = subprocess.run(
        [sys.executable, "-c", CALL_RAY, address],
        env=own | environment,
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
