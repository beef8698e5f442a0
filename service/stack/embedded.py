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
    """The addresses of a stack that is up, and its MLflow server, which must be looked after."""

    api_url: str
    mlflow: MlflowServer


@contextmanager
def embedded_stack(data_dir: Path, host: str, port: int) -> Iterator[Stack]:
    """Start everything, give the addresses once all of it answers, and stop it without leaving a process behind.

    Port 0 means any free one. Raises `StartError` when the data directory or the port is in use.
    """
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_lock(data_dir))
        listener = stack.enter_context(listen(host, port))
        mlflow = stack.enter_context(MlflowServer(data_dir))  # takes longest: the rest starts meanwhile
        cluster = stack.enter_context(ray_cluster(data_dir, Settings()))
        cpus, gpus = (int(cluster.resources[name]) for name in ("CPU", "GPU"))
        settings = Settings(data_dir=data_dir, host=host, mlflow_url=mlflow.url, cluster_cpus=cpus, cluster_gpus=gpus)
        # The data directory is locked: whoever left a lease in its database is gone.
        alone = settings.database_url is None
        url = stack.enter_context(control_plane(settings, listener, cluster, alone=alone))
        mlflow.wait_until_ready(START_TIMEOUT)
        yield Stack(url, mlflow)


@contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    """Keep the data directory to this process; the lock goes with the process, however it ends."""
    with (data_dir / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"the data directory {data_dir} is used by another gradfleet; stop that one, or name another --data-dir"
            ) from None
        yield
