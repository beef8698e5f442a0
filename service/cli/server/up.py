"""`gradfleet up`: run the embedded stack in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.addresses import is_loopback
from service.cli.server.stopping import StopSignal
from service.cli.terminal import fail
from service.telemetry.logs import log_to

if TYPE_CHECKING:
    from service.settings import Settings

POLL_SECONDS = 1.0

DataDir = Annotated[Path, typer.Option(envvar="GRADFLEET_DATA_DIR", help="Directory for all data.")]
Port = Annotated[
    int, typer.Option(envvar="GRADFLEET_PORT", min=0, max=65535, help="Port of the API; 0 selects a free port.")
]
Host = Annotated[
    str,
    typer.Option(envvar="GRADFLEET_HOST", help="Address to listen on. Any but a loopback address requires a token."),
]
LOOPBACK = "127.0.0.1"
# Settings of `gradfleet serve` for what `up` starts itself.
WITHOUT_EFFECT = {"ray_address": "Ray", "mlflow_url": "MLflow server"}


def up(
    host: Host = LOOPBACK,
    port: Port = 8000,
    data_dir: DataDir = Path("gradfleet-data"),
) -> None:
    """Run Gradfleet on this machine until Ctrl-C: Ray, the MLflow server and the API."""
    from service.settings import Settings  # noqa: PLC0415

    settings = Settings(data_dir=data_dir.absolute())
    for name, component in WITHOUT_EFFECT.items():
        if name in settings.model_fields_set:
            fail(
                f"GRADFLEET_{name.upper()} has no effect on `gradfleet up`, which starts its own {component}: "
                "unset it, or use `gradfleet serve`",
                code=2,
            )
    check_host(host, settings, f" --data-dir {data_dir}")

    from service.stack.data_directory import data_directory  # noqa: PLC0415

    with data_directory(data_dir) as directory:
        stop = StopSignal(lambda: _remove_ray_files(directory))
        (directory / "logs").mkdir(exist_ok=True)
        log_to(directory / "logs" / "gradfleet.log")
        from service.stack.control_plane import StartError  # noqa: PLC0415
        from service.stack.embedded import embedded_stack  # noqa: PLC0415

        try:
            with embedded_stack(directory, host, port) as stack:
                api, mlflow = stack.api_url, stack.mlflow.url
                print(f"Gradfleet is ready: API {api}  docs {api}/docs  MLflow {mlflow}", flush=True)  # noqa: T201
                while not stop.wait(POLL_SECONDS):
                    stack.mlflow.restart_if_ended()
                print("Gradfleet is stopping.", flush=True)  # noqa: T201
        except StartError:
            if not stop.wait(0):
                raise


def _remove_ray_files(directory: Path) -> None:
    from service.stack.ray_cluster import remove_left_directory  # noqa: PLC0415

    remove_left_directory(directory)


def check_host(host: str, settings: Settings, where: str = "") -> None:
    """End the command if other machines could reach the API and there is no token yet."""
    from service.access.tokens import has_token  # noqa: PLC0415

    if is_loopback(host) or has_token(settings.database):
        return
    fail(
        f"{host} is not a loopback address: other machines can reach it, so the API requires a token, and "
        f"there is none. Create one with `gradfleet tokens add NAME{where}`, or listen on this machine only: "
        "--host 127.0.0.1.",
        code=2,
    )
