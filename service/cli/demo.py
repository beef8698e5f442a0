"""`gradfleet demo`: hinge against softmax on real handwritten digits, from an empty machine to a comparison."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.cli.live import follow
from service.cli.picture import draw_curves
from service.cli.up import DataDir
from service.client import Client
from service.processes import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Job

DATASET, EXPERIMENT = "digits", "hinge-vs-softmax"
LOSSES = ("hinge", "softmax")
MODELS: dict[str, list[dict[str, Any]]] = {
    "linear": [{"type": "linear", "units": 10}],
    "hidden": [{"type": "linear", "units": 128}, {"type": "relu"}, {"type": "linear", "units": 10}],
}
START_TIMEOUT = 90.0  # seconds
TRAIN_TIMEOUT = 600.0
EXPORT_TIMEOUT = 60.0


def demo(
    data_dir: DataDir = Path("gradfleet-data"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up afterwards, until Ctrl-C.")] = False,
) -> None:
    """Train hinge and softmax classifiers on real handwritten digits and compare them."""
    console = Console()
    console.print("[bold]Gradfleet demo[/]: hinge against softmax on 1,797 handwritten digits\n")
    console.print("Starting Ray, MLflow and the API ...")
    with _stack(data_dir) as url, Client(url) as client:
        console.print(f"API {url}   docs {url}/docs\n")
        client.register_dataset(DATASET, _write_digits(data_dir / "uploads"), "label")
        jobs = [client.submit(_spec(loss, model)) for model in MODELS for loss in LOSSES]
        follow(jobs, console)
        failed = [job for job in jobs if job.state != "succeeded"]
        for job in failed:
            console.print(f"{job.name} {job.state}: {job.reason}", style="red", markup=False)
        if failed:
            raise typer.Exit(1)
        _wait_for_export(jobs)
        curves = {job.name: json.loads(job.export_metrics("application/json"))["data"] for job in jobs}
        console.print()
        console.print(_comparison(jobs, curves))
        picture = data_dir / "demo" / f"{EXPERIMENT}.png"
        draw_curves(curves, picture)
        console.print(f"\nCurves:      {picture}")
        for job in jobs:
            console.print(f"MLflow run:  {job.name:<15} {job['mlflow']['url']}", soft_wrap=True)
        if keep:
            console.print(f"\nStill up: API {url}, docs {url}/docs. Ctrl-C stops it.")
            _wait_for_signal()
        else:
            again = "" if data_dir == Path("gradfleet-data") else f" --data-dir {data_dir}"
            console.print(f"\nAll of it is kept in {data_dir}. To see the runs in MLflow, and the API's docs:")
            console.print(f"  {sys.argv[0]} up{again}", soft_wrap=True)


@contextmanager
def _stack(data_dir: Path) -> Iterator[str]:
    """Run `gradfleet up` beside this process; gives the API's address."""
    data_dir.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "service.cli.main", "up", "--port", "0", "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the demo, which then stops it
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    try:
        yield _wait_until_ready(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101  it is a pipe
    watchdog = threading.Timer(START_TIMEOUT, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if ready := re.match(r"Gradfleet is ready: API (\S+)", line):
                return ready[1]
    finally:
        watchdog.cancel()
    raise typer.Exit(process.wait() or 1)  # it has said why on standard error


def _write_digits(directory: Path) -> Path:
    """Write the digits that scikit-learn brings along as a Parquet file."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415

    digits = load_digits()
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(digits.data.reshape(-1), pa.uint8(), safe=True), 64)
    path = directory.absolute() / "digits.parquet"
    pq.write_table(pa.table({"pixels": pixels, "label": pa.array(digits.target)}), path)
    return path


def _spec(loss: str, model: str) -> dict[str, Any]:
    return {
        "name": f"{loss}-{model}",
        "experiment": EXPERIMENT,
        "data": {"dataset": DATASET, "validation": 0.2, "standardize": True},
        "model": {"layers": MODELS[model]},
        "loss": {"type": loss},
        "regularization": {"l2": 0.005},
        "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": {"type": "cosine"}},
        "training": {"epochs": 40, "batch_size": 128, "seed": 0, "shards": 4},
        "resources": {"workers": 2},
    }


def _wait_for_export(jobs: list[Job]) -> None:
    """Wait until MLflow has all of the jobs."""
    deadline = time.monotonic() + EXPORT_TIMEOUT
    for job in jobs:
        while not (job["mlflow"] and job["mlflow"]["complete"]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"MLflow has not taken the runs within {EXPORT_TIMEOUT:g} s")
            time.sleep(0.1)
            job.refresh()


def _comparison(jobs: list[Job], curves: dict[str, Any]) -> Table:
    table = Table(title="Hinge against softmax, on the validation rows", title_justify="left")
    table.add_column("job")
    for heading in ("own loss", "accuracy", "hinge", "softmax", "active", "seconds"):
        table.add_column(heading, justify="right")
    for job in jobs:
        metrics = job["metrics"]
        table.add_row(
            job.name,
            f"{metrics['val/loss']:.4f}",
            f"{metrics['val/accuracy']:.1%}",
            f"{metrics['val/hinge']:.4f}",
            f"{metrics['val/softmax']:.4f}",
            f"{_mean_of_last_epoch(job, curves[job['name']]['train/active_fraction']['values']):.1%}",
            f"{_seconds(job):.1f}",
        )
    table.caption = "active: training samples whose loss still has a gradient, in the last epoch"
    return table


def _mean_of_last_epoch(job: Job, values: list[float]) -> float:
    steps = job.progress["total_steps"] // job.progress["epoch"]
    return fmean(values[-steps:])


def _seconds(job: Job) -> float:
    started, finished = (datetime.fromisoformat(job[moment]) for moment in ("started_at", "finished_at"))
    return (finished - started).total_seconds()


def _wait_for_signal() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    stop.wait()
