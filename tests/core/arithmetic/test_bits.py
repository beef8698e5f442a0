"""At one level of arithmetic, the engine gives the same bits on CPUs of different makers and generations."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from core.kernels.fused import SHORTEST
from tests.core.arithmetic.bits import COMPILED
from workers.machine.arithmetic import ALL

ROOT = Path(__file__).parents[3]
QEMU = "qemu-x86_64"
# An emulated CPU by its name in QEMU, its level, and whether the loops that Numba compiles are included.
CPUS = [
    ("Haswell", "x86-64-v3", True),
    ("Skylake-Client", "x86-64-v3", False),
    ("EPYC", "x86-64-v3", False),
    ("EPYC-Milan", "x86-64-v3", False),
    ("Nehalem", "x86-64-v2", False),
]

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="compares levels of x86-64"),
]


@cache
def bits(level: str, *arguments: str, cpu: str | None = None) -> dict[str, str]:
    """The digests that a process at a level prints, on this CPU or on an emulated one."""
    emulator = [QEMU, "-cpu", cpu] if cpu else []
    program = [*emulator, sys.executable, "-m", "tests.core.arithmetic.bits", *arguments]
    environment = os.environ | ALL[level].environment  # type: ignore[index]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is missing: install Debian's package qemu-user")
@pytest.mark.parametrize(("cpu", "level", "compiled"), CPUS)
def test_an_emulated_cpu_has_the_bits_of_this_one(cpu: str, level: str, compiled: bool) -> None:
    arguments = ["long"] * compiled
    here, there = bits(level, *arguments), bits(level, *arguments, cpu=cpu)
    assert len(here) > 250
    assert {name for name in here if here[name] != there[name]} == set()


def test_another_level_has_other_bits() -> None:
    # So the comparison above would show it if a level did not choose the kernels.
    one, two = bits("x86-64-v2"), bits("x86-64-v3")
    assert one["Exp() on 37"] != two["Exp() on 37"]
    assert one["Abs() on 37"] == two["Abs() on 37"]


def test_the_longest_vector_is_long_enough_for_compiled_loops() -> None:
    assert COMPILED > SHORTEST
