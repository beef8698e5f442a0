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

from tests.fixtures.postgres import PostgresServer, find_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ray reads these when it is imported, which the modules of tests do.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_urlsafe(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

RAY_CPUS = 4

# A slow example on a busy machine is no failure; against a hang each test has its time limit.
settings.register_profile("gradfleet", deadline=None, print_blob=True)
settings.load_profile("gradfleet")


def pytest_collection_finish() -> None:
    """What is there before the first test stays: no collection of garbage needs to go through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[int]:
    """One Ray on this machine for the whole run; gives its number of logical CPUs."""
    import ray  # noqa: PLC0415  only the tests that train on a cluster pay for it

    directory = tempfile.mkdtemp(prefix="gradfleet-")  # Ray's sockets need a short path
    try:
        ray.init(
            num_cpus=RAY_CPUS,
            num_gpus=1,  # which nobody looks for before a job asks for it
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
    """One PostgreSQL for the whole run, too quick to survive a power failure."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL's programs are not here: install Debian's package postgresql")
    server = PostgresServer(programs, durable=False)
    server.start()
    yield server
    server.remove()
