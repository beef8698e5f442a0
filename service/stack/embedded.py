"""The embedded stack: Ray, an MLflow server, the scheduler and the API on one machine, under one data directory."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.settings import Settings
from service.stack.control_plane import START_TIMEOUT, control_plane, listen
from service.stack.mlflow_server import MlflowServer
from service.stack.ray_cluster import ray_cluster
from workers.machine.memory import machine_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Variables that Ray, MLflow and its server read. They are meant for other installations of these.
FOREIGN = ("RAY_", "MLFLOW_", "UVICORN_")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """A running stack: the API's address, and the MLflow server, which the caller restarts when it ends."""

    api_url: str
    mlflow: MlflowServer


@contextmanager
def embedded_stack(data_dir: Path, host: str, port: int) -> Iterator[Stack]:
    """Start every component, yield once all of them answer, and at the end stop them with all their processes.

    The data directory is locked by this process. Port 0 selects a free port. Raises `StartError`.
    """
    _forget_foreign_variables()
    given = Settings(data_dir=data_dir, host=host)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        mlflow = stack.enter_context(MlflowServer(given))  # the slowest to start: the others start meanwhile
        cluster = stack.enter_context(ray_cluster(data_dir, given))
        cpus, gpus = (int(cluster.resources[name]) for name in ("CPU", "GPU"))
        settings = Settings(
            data_dir=data_dir,
            host=host,
            mlflow_url=mlflow.url,
            mlflow_secret=mlflow.secret,
            cluster_cpus=cpus,
            cluster_gpus=gpus,
            max_worker_bytes=given.max_worker_bytes or machine_memory(),
        )
        # The data directory is locked, so the process that left a lease in its database has ended.
        alone = settings.database_url is None
        url = stack.enter_context(control_plane(settings, listener, cluster, alone=alone))
        mlflow.wait_until_ready(START_TIMEOUT)
        yield Stack(url, mlflow)


def _forget_foreign_variables() -> None:
    """Remove the variables that would change the Ray and the MLflow server of the stack."""
    if names := sorted(name for name in os.environ if name.startswith(FOREIGN)):
        log.warning("ignoring variables for another Ray or MLflow server: %s", ", ".join(names))
        for name in names:
            del os.environ[name]
