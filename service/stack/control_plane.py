"""The components of every service process: the API, the scheduler and the export to MLflow."""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from service.addresses import http_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

    from service.components import ClusterComponent
    from service.scheduling.scheduler import Cluster
    from service.settings import Settings

    class ServiceCluster(Cluster, ClusterComponent, Protocol):
        """A cluster for the scheduler, which reports its status."""


START_TIMEOUT = 60.0  # seconds


class StartError(RuntimeError):
    """The service cannot start; the message says why and what to do."""


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket for the API; port 0 selects a free port. Raises `StartError` if it cannot listen there."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        option = "--port" if error.errno in {errno.EADDRINUSE, errno.EACCES} else "--host"
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror}; try another {option}") from error
    except UnicodeError:  # for example two dots, one after the other
        raise StartError(f"cannot listen on {host}: it is not a host name; try another --host") from None
    with listener:
        yield listener


@contextmanager
def control_plane(
    settings: Settings, listener: socket.socket, cluster: ServiceCluster, *, alone: bool = False
) -> Iterator[str]:
    """Serve the API, and while this process holds the lease, schedule jobs and export them to MLflow.

    Yields the API's address. `alone` means that no other process can be using this database.
    """
    # Importing the scheduler imports Ray, which reads its environment then; `cluster` has set it.
    from service.components import Components  # noqa: PLC0415
    from service.datasets.files.workspace import remove_leftovers  # noqa: PLC0415
    from service.datasets.repository import is_recorded  # noqa: PLC0415
    from service.http.connections import Connections, raise_file_limit  # noqa: PLC0415
    from service.http.server import make_server  # noqa: PLC0415
    from service.scheduling.leadership import Leadership  # noqa: PLC0415
    from service.stack.app import create_app  # noqa: PLC0415
    from service.stack.data_directory import create_data_directory  # noqa: PLC0415
    from service.store import Database, migrate  # noqa: PLC0415

    raise_file_limit()
    create_data_directory(settings.data_dir)
    for directory in settings.allowed_roots:
        directory.mkdir(parents=True, exist_ok=True)
    migrate(settings.database)
    database = Database(settings.database)
    remove_leftovers(settings.dataset_dir, lambda file: is_recorded(database, file))
    # However many requests read at the same time, the lease, the scheduler and the export have their connections.
    own = database.beside()
    leadership = Leadership(own, settings, cluster, alone=alone)
    connections = Connections(settings.max_connections)
    components = Components(cluster, leadership.scheduler, leadership.exporter, connections)
    app = create_app(settings, database=database, on_change=leadership.wake, components=components)
    server = make_server(app, connections)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api")
    with ExitStack() as stack:
        stack.callback(database.close)
        stack.callback(own.close)
        leadership.start()
        stack.callback(leadership.stop)
        serving.start()
        stack.callback(_stop_serving, server, serving)
        # The server waits until its responses have ended.
        stack.callback(app.state.streams.close)
        stack.callback(app.state.runners.close)
        stack.callback(app.state.rooms.close)
        _wait_until_started(server, serving)
        address, port = listener.getsockname()[:2]
        yield http_url(address, port)


def _wait_until_started(server: uvicorn.Server, serving: threading.Thread) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not server.started:
        if not serving.is_alive() or time.monotonic() > deadline:
            raise StartError("the API did not start; see its log")
        time.sleep(0.01)


def _stop_serving(server: uvicorn.Server, serving: threading.Thread) -> None:
    server.should_exit = True
    serving.join()
