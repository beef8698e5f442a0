"""A node of the cluster is lost, with its processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT = 280  # seconds


@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("lost", ["worker", "supervisor"])
def test_a_job_continues_without_a_lost_node(tmp_path: Path, lost: str) -> None:
    program = [sys.executable, "-m", "tests.chaos.nodes", str(tmp_path), lost]
    root = Path(__file__).parents[2]
    done = subprocess.run(program, cwd=root, timeout=TIMEOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
