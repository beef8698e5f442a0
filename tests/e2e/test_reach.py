"""What can be reached of a stack that is up, and by whom."""

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

# The client of Ray's head node: whoever may talk to it may run what he likes.
ASK_RAY = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_get(b"key", b"namespace", timeout=10)
"""


def test_nothing_of_it_can_be_reached_from_other_machines(stack: Stack) -> None:
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
    assert len(listening) >= 4, "the API, MLflow, and two at least of Ray"
    assert set(listening) <= LOOPBACK


@pytest.mark.parametrize(
    "environment", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "guessed" * 6}], ids=["no token", "another token"]
)
def test_ray_does_as_nobody_without_its_token_says(stack: Stack, environment: dict[str, str]) -> None:
    (address, *_) = re.findall(r"--gcs-address=(\S+)", "\n".join(marked_processes(stack.mark)))
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    asked = subprocess.run(
        [sys.executable, "-c", ASK_RAY, address],
        env=own | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 1
    assert "AuthenticationError" in asked.stderr


def test_mlflow_answers_to_no_name_of_another_machine(stack: Stack) -> None:
    rebound = httpx.get(
        f"{stack.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": "evil.example"}
    )
    assert rebound.status_code == 403
