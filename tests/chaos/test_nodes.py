"""Several nodes: one is lost with its processes, or their CPUs differ."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from workers.machine.arithmetic import levels_here

TIMEOUT = 280  # seconds


@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.parametrize("lost", ["worker", "supervisor"])
def test_a_job_continues_without_a_lost_node(tmp_path: Path, lost: str) -> None:
    run(tmp_path, lost)


@pytest.mark.timeout(TIMEOUT + 20)
def test_nodes_with_different_cpus_give_the_same_bits(tmp_path: Path) -> None:
    levels = levels_here()
    if len(levels) < 2:
        pytest.skip("this machine's CPU has one level of arithmetic only")
    run(tmp_path, "levels", levels[-2].environment)


def run(directory: Path, scenario: str, environment: Mapping[str, str] = os.environ) -> None:
    program = [sys.executable, "-m", "tests.chaos.nodes", str(directory), scenario]
    done = subprocess.run(
        program,
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
        timeout=TIMEOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
