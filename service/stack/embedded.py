"""The embedded stack: Ray, an MLflow server, the scheduler and the API on one machine, under one data directory."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.settings import Settings
from service.stack.control_plane import START_TIMEOUT, StartError, control_plane, listen
from service.stack.mlflow_server import MlflowServer
from service.stack.ray_cluster import ray_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Stack:
    """A running stack: the API's address, and the MLflow server, which the caller restarts when it ends."""

    api_url: str
    mlflow: MlflowServer


@contextmanager
def embedded_stack(data_dir: Path, host: str, port: int) -> Iterator[Stack]:
    """Start every component, yield once all of them answer, and at the end stop them with all their processes.

    Port 0 selects a free port. Raises `StartError` if the data directory or the port is in use.
    """
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_lock(data_dir))
        listener = stack.enter_context(listen(host, port))
        mlflow = stack.enter_context(
            MlflowServer(Settings(data_dir=data_dir, host=host))
        )  # the slowest to start: the other components start meanwhile
        cluster = stack.enter_context(ray_cluster(data_dir, Settings()))
        cpus, gpus = (int(cluster.resources[name]) for name in ("CPU", "GPU"))
        settings = Settings(
            data_dir=data_dir,
            host=host,
            mlflow_url=mlflow.url,
            mlflow_secret=mlflow.secret,
            cluster_cpus=cpus,
            cluster_gpus=gpus,
        )
        # The data directory is locked, so the process that left a lease in its database has ended.
        alone = settings.database_url is None
        url = stack.enter_context(control_plane(settings, listener, cluster, alone=alone))
        mlflow.wait_until_ready(START_TIMEOUT)
        yield Stack(url, mlflow)


@contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    """Lock the data directory for this process. The operating system releases the lock when the process ends."""
    with (data_dir / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"the data directory {data_dir} is in use by another gradfleet; stop it, or choose another --data-dir"
            ) from None
        yield
