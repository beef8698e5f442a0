"""`gradfleet serve`: the API, the scheduler and the export to MLflow; the other components run elsewhere."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from service.cli.server.stopping import StopSignal
from service.cli.server.up import LOOPBACK, POLL_SECONDS, Host, check_host
from service.cli.terminal import fail
from service.telemetry.logs import log_to


def serve(
    host: Host = LOOPBACK,
    port: Annotated[
        int, typer.Option(envvar="GRADFLEET_PORT", min=0, max=65535, help="Port of the API; 0 selects a free port.")
    ] = 8000,
) -> None:
    """Serve the API until Ctrl-C, on a node of a Ray cluster (GRADFLEET_RAY_ADDRESS).

    The database (GRADFLEET_DATABASE_URL), the MLflow server (GRADFLEET_MLFLOW_URL) and the directory that all nodes
    share (GRADFLEET_DATA_DIR) are provided separately. If several such processes use one database, one of them
    schedules.
    """
    from service.settings import Settings  # noqa: PLC0415

    settings = Settings(host=host)
    check_host(host, settings)
    stop = StopSignal()
    log_to()

    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    from service.stack.control_plane import StartError, control_plane, listen  # noqa: PLC0415
    from service.stack.joined_cluster import JoinedCluster  # noqa: PLC0415

    cluster = JoinedCluster(settings.ray_address)
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(listen(host, port))
            url = stack.enter_context(control_plane(settings, listener, cluster))
            print(f"Gradfleet serves: API {url}  docs {url}/docs", flush=True)  # noqa: T201
            while not stop.wait(POLL_SECONDS):
                pass
    except StartError as error:
        fail(str(error))
    except OperationalError as error:
        fail(f"the database of GRADFLEET_DATABASE_URL does not answer: {error.orig}")
