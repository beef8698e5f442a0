from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.stack import Stack, write_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests that do not stop it. The digits are registered."""
    stack = Stack(tmp_path_factory.mktemp("stack")).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(stack.data_dir / "uploads" / "digits.parquet"), "label")
    yield stack
    assert stack.signal(signal.SIGTERM) == 0


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client
