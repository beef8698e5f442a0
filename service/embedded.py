"""The embedded stack: Ray, an MLflow server, the scheduler and the API on one machine, under one data directory."""

from __future__ import annotations

import fcntl
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.mlflow_server import MlflowServer
from service.ray_cluster import ray_cluster
from service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import uvicorn

    from service.ray_cluster import RayCluster

START_TIMEOUT = 60.0  # seconds


class StartError(RuntimeError):
    """The stack can not start here; the message says why and what to do."""


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
        listener = stack.enter_context(_listen(host, port))
        mlflow = stack.enter_context(MlflowServer(data_dir))  # takes longest: the rest starts meanwhile
        cluster = stack.enter_context(ray_cluster(data_dir, Settings()))
        url = stack.enter_context(_api(data_dir, listener, mlflow.url, cluster))
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


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StartError(f"can not listen on {host} port {port}: {error.strerror}; try another --port") from error
    with listener:
        yield listener


@contextmanager
def _api(data_dir: Path, listener: socket.socket, mlflow_url: str, cluster: RayCluster) -> Iterator[str]:
    """Serve the API, the queue and the export to MLflow; gives the API's address."""
    import uvicorn  # noqa: PLC0415

    from service.app import create_app  # noqa: PLC0415
    from service.scheduler import Scheduler  # noqa: PLC0415
    from service.store import Database, migrate  # noqa: PLC0415
    from service.tracking import MlflowExporter  # noqa: PLC0415

    cpus, gpus = (int(cluster.resources[name]) for name in ("CPU", "GPU"))
    settings = Settings(data_dir=data_dir, mlflow_url=mlflow_url, cluster_cpus=cpus, cluster_gpus=gpus)
    for directory in settings.allowed_roots:
        directory.mkdir(parents=True, exist_ok=True)
    migrate(settings.database)
    database = Database(settings.database)
    scheduler = Scheduler(database, settings, cluster)
    exporter = MlflowExporter(database, settings)
    app = create_app(settings, database=database, on_change=scheduler.wake)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5)
    )
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api")
    with ExitStack() as stack:
        stack.callback(database.close)
        exporter.start()
        stack.callback(exporter.stop)
        scheduler.start()
        stack.callback(scheduler.stop)
        serving.start()
        stack.callback(_stop_serving, server, serving)
        _wait_until_started(server, serving)
        host, port = listener.getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_until_started(server: uvicorn.Server, serving: threading.Thread) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not server.started:
        if not serving.is_alive() or time.monotonic() > deadline:
            raise StartError("the API did not start; its log says why")
        time.sleep(0.01)


def _stop_serving(server: uvicorn.Server, serving: threading.Thread) -> None:
    server.should_exit = True
    serving.join()
