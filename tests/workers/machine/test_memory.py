from __future__ import annotations

from pathlib import Path

import pytest

from workers.machine import memory
from workers.machine.memory import machine_memory


@pytest.mark.parametrize(("text", "expected"), [("1048576\n", 2**20), ("max\n", None), (f"{2**62}\n", None)])
def test_the_memory_of_a_container_is_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int | None
) -> None:
    monkeypatch.setattr(memory, "LIMITS", ())
    physical = machine_memory()
    limit = tmp_path / "memory.max"
    limit.write_text(text)
    monkeypatch.setattr(memory, "LIMITS", (str(limit), str(tmp_path / "none")))
    assert machine_memory() == (physical if expected is None else expected)


def test_the_memory_of_this_machine_is_that_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LIMITS", ())
    lines = Path("/proc/meminfo").read_text().splitlines()
    (total,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    assert machine_memory() == total
