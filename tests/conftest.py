from __future__ import annotations

import gc
import logging
import os
import secrets
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

import tests.fixtures.arithmetic  # noqa: F401  before anything that imports NumPy
from tests.fixtures.postgres import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.postgres import PostgresServer

# Ray reads these on import. They are set here, because test modules import Ray.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_urlsafe(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

RAY_CPUS = 4

# No deadline for an example, because a busy machine can be slow. Each test has a time limit.
settings.register_profile("gradfleet", deadline=None, print_blob=True)
settings.load_profile("gradfleet")


def pytest_collection_finish() -> None:
    """Exclude all objects that exist before the first test from garbage collection, which saves time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[int]:
    """Start a local Ray cluster for the whole test run. Yields its number of logical CPUs."""
    import ray  # noqa: PLC0415  slow, and only needed by the tests that train on a cluster

    directory = tempfile.mkdtemp(prefix="gradfleet-")  # Ray's sockets need a short path
    try:
        ray.init(
            num_cpus=RAY_CPUS,
            num_gpus=1,  # a logical GPU; the device is not checked before a job requests it
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=100 * 1024 * 1024,
            _temp_dir=directory,
        )
        yield RAY_CPUS
    finally:
        ray.shutdown()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server for the whole test run. For speed, it is not durable."""
    with running_server(durable=False) as server:
        yield server
