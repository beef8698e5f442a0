from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.stack import Stack, write_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client


FOREIGN = {
    "RAY_ADDRESS": "192.0.2.1:6379",
    "RAY_NAMESPACE": "mine",
    "RAY_RUNTIME_ENV_HOOK": "mine.hook",
    "MLFLOW_BACKEND_STORE_URI": "postgresql://192.0.2.1/mine",
    "MLFLOW_TRACKING_URI": "http://192.0.2.1",
    "UVICORN_PORT": "none",
}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests that do not stop it. The digits are registered.

    Other accounts can list its data directory, whose name has characters with a meaning in URLs and in templates. The
    environment is that of a user who also has other installations of Ray and MLflow.
    """
    data_dir = tmp_path_factory.mktemp("stack") / "data ?a=1&b%20%2F#c"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    temporary = tmp_path_factory.mktemp("a-directory-whose-path-is-too-long-for-the-sockets-in-it")
    stack = Stack(data_dir, {**FOREIGN, "TMPDIR": str(temporary)}).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(stack.data_dir / "uploads" / "digits.parquet"), "label")
    yield stack
    assert stack.signal(signal.SIGTERM) == 0


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client
