"""`gradfleet up`: the embedded stack in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.addresses import is_loopback
from service.cli.server.stopping import StopSignal
from service.telemetry.logs import log_to

if TYPE_CHECKING:
    from service.settings import Settings

LOOK_AFTER = 1.0  # seconds between looks at the MLflow server

DataDir = Annotated[Path, typer.Option(help="Where everything is kept.")]


def up(
    host: Annotated[
        str, typer.Option(envvar="GRADFLEET_HOST", help="Address to listen on; any but a loopback one needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 for any free one.")] = 8000,
    data_dir: DataDir = Path("gradfleet-data"),
) -> None:
    """Run Gradfleet on this machine until Ctrl-C: Ray, the MLflow server and the API."""
    from service.settings import Settings  # noqa: PLC0415

    check_host(host, Settings(data_dir=data_dir.absolute()), f" --data-dir {data_dir}")
    stop = StopSignal()
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "logs").mkdir(exist_ok=True)
    log_to(data_dir / "logs" / "gradfleet.log")

    from service.stack.control_plane import StartError  # noqa: PLC0415
    from service.stack.embedded import embedded_stack  # noqa: PLC0415

    try:
        with embedded_stack(data_dir, host, port) as stack:
            api, mlflow = stack.api_url, stack.mlflow.url
            print(f"Gradfleet is ready: API {api}  docs {api}/docs  MLflow {mlflow}", flush=True)  # noqa: T201
            while not stop.wait(LOOK_AFTER):
                stack.mlflow.restart_if_ended()
            print("Gradfleet is stopping.", flush=True)  # noqa: T201
    except StartError as error:
        print(f"gradfleet: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from error


def check_host(host: str, settings: Settings, where: str = "") -> None:
    """End the command where other machines can reach the API, and nobody can be told from anybody."""
    from service.access.tokens import has_token  # noqa: PLC0415

    if is_loopback(host) or has_token(settings.database):
        return
    print(  # noqa: T201
        f"gradfleet: {host} is not a loopback address: other machines can reach it, so the API asks for a token there, "
        f"and there is none. Make one with `gradfleet tokens add NAME{where}`, or listen on this "
        "machine only: --host 127.0.0.1.",
        file=sys.stderr,
    )
    raise typer.Exit(2)
