"""Faults in a real stack. GRADFLEET_CHAOS_SEED repeats a run, and GRADFLEET_CHAOS_ROUNDS makes it longer."""

from __future__ import annotations

import os
import random
import secrets
import signal
from typing import TYPE_CHECKING

import pytest

from tests.chaos.disturbed import Bench
from tests.e2e.stack import Stack, write_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

CPUS = 10  # logical CPUs: five workers with two threads each


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get("GRADFLEET_CHAOS_SEED", secrets.randbits(32)))


@pytest.fixture(autouse=True)
def chance(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of a test. pytest shows the seed if the test fails."""
    print(f"GRADFLEET_CHAOS_SEED={seed}")  # noqa: T201
    return random.Random(f"{seed} {request.node.nodeid}")


@pytest.fixture(scope="session")
def rounds() -> int:
    """Number of times that each fault is repeated."""
    return int(os.environ.get("GRADFLEET_CHAOS_ROUNDS", "1"))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A stack with many logical CPUs, where the digits are registered."""
    stack = Stack(tmp_path_factory.mktemp("chaos"), environment={"GRADFLEET_CLUSTER_CPUS": str(CPUS)}).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(stack.data_dir / "uploads" / "digits.parquet"), "label")
        yield Bench(stack, client)
    assert stack.signal(signal.SIGTERM) == 0
    stack.end_leftovers()


@pytest.fixture(autouse=True)
def running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Assert that the stack survives each test that uses it."""
    yield
    if "bench" in request.fixturenames:
        request.getfixturevalue("bench").stack.assert_running()
