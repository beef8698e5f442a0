"""`gradfleet up`: the embedded stack in the foreground."""

from __future__ import annotations

import ipaddress
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from types import FrameType

LOOK_AFTER = 1.0  # seconds between looks at the MLflow server

DataDir = Annotated[Path, typer.Option(help="Where everything is kept.")]


def up(
    host: Annotated[str, typer.Option(help="Address to listen on; a loopback one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 for any free one.")] = 8000,
    data_dir: DataDir = Path("gradfleet-data"),
) -> None:
    """Run Gradfleet on this machine until Ctrl-C: Ray, the MLflow server and the API."""
    if not _is_loopback(host):
        print(  # noqa: T201
            f"gradfleet: {host} is not a loopback address. The API asks nobody who they are, so it listens on this "
            "machine only: use --host 127.0.0.1.",
            file=sys.stderr,
        )
        raise typer.Exit(2)
    stop = threading.Event()

    def request_stop(_number: int, _frame: FrameType | None) -> None:
        # A second signal must not break off the clean-up half-way.
        stop.set()

    def handle_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, request_stop)

    handle_signals()
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "logs").mkdir(exist_ok=True)
    logging.basicConfig(
        filename=data_dir / "logs" / "gradfleet.log",
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request to MLflow otherwise

    from service.embedded import StartError, embedded_stack  # noqa: PLC0415

    try:
        with embedded_stack(data_dir, host, port) as stack:
            api, mlflow = stack.api_url, stack.mlflow.url
            print(f"Gradfleet is ready: API {api}  docs {api}/docs  MLflow {mlflow}", flush=True)  # noqa: T201
            while not stop.wait(LOOK_AFTER):
                stack.mlflow.restart_if_ended()
                # A Ray that is started again puts its own in their place, in a thread that can not put these back.
                handle_signals()
            print("Gradfleet is stopping.", flush=True)  # noqa: T201
    except StartError as error:
        print(f"gradfleet: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
