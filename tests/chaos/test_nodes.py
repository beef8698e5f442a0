"""A node of the cluster dies, with what runs on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT = 280  # seconds


@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("lost", ["worker", "supervisor"])
def test_a_job_goes_on_without_a_node(tmp_path: Path, lost: str) -> None:
    program = [sys.executable, "-m", "tests.chaos.nodes", str(tmp_path), lost]
    root = Path(__file__).parents[2]
    done = subprocess.run(program, cwd=root, timeout=TIMEOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
