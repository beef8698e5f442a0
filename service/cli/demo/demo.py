"""`gradfleet demo`: start a stack, train hinge and softmax classifiers on handwritten digits, and compare them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from service.cli.demo import experiment
from service.cli.live.live_sweep import follow_sweep
from service.cli.server.stopping import StopSignal
from service.cli.server.up import POLL_SECONDS, DataDir
from service.cli.terminal import PIPE_WIDTH, print_line
from service.client import Client
from service.processes import SAFE_PATH, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.analysis.comparison_figure import Group, Values
    from service.client import Sweep

START_TIMEOUT = 90.0  # seconds
EXPORT_TIMEOUT = 180.0  # seconds between two exported runs; pictures take time


def demo(
    data_dir: DataDir = Path("gradfleet-data"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stack running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Train hinge and softmax classifiers on handwritten digits and compare them."""
    from service.cli.demo.digits import register_digits  # noqa: PLC0415

    console = Console()
    console.print("[bold]Gradfleet demo[/]: hinge against softmax on 1,797 handwritten digits\n")
    console.print("Starting Ray, MLflow and the API ...")
    with _stack(data_dir) as url, Client(url) as client:
        console.print(f"API {url}   docs {url}/docs\n")
        register_digits(client, data_dir / "uploads")
        sweeps = [client.sweep(experiment.losses_sweep()), client.sweep(experiment.mislabelled_sweep())]
        for sweep in sweeps:
            follow_sweep(sweep, console)
        losses, mislabelled = sweeps
        jobs = [job for sweep in sweeps for job in sweep.jobs()]
        failed = [job for job in jobs if job.state != "succeeded"]
        for job in failed:
            print_line(console, f"{job.name} {job.state}: {job.reason}", "red")
        if failed:
            raise typer.Exit(1)
        groups, accuracies = _groups(client, losses, data_dir), experiment.accuracies(losses, mislabelled)
        for table in (experiment.table_of_groups(groups), experiment.table_of_accuracies(accuracies)):
            console.print()
            (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)
        picture = data_dir / "demo" / f"{experiment.EXPERIMENT}.png"
        _draw(picture, groups, accuracies)
        console.print()
        print_line(console, f"Picture:     {picture}")
        _wait_for_export(sweeps)
        for sweep in sweeps:
            console.print(f"MLflow:      {sweep.name:<12} {sweep['mlflow']['url']}", soft_wrap=True)
            console.print(f"  charts:    {sweep.name:<12} {sweep['mlflow']['compare_url']}", soft_wrap=True)
        if keep:
            console.print(f"\nStill running: API {url}, docs {url}/docs. Ctrl-C stops it.")
            stop = StopSignal()
            while not stop.wait(POLL_SECONDS):
                pass
        else:
            again = "" if data_dir == Path("gradfleet-data") else f" --data-dir {data_dir}"
            console.print()
            print_line(console, f"Everything is kept in {data_dir}. To see the runs in MLflow and the API's docs:")
            print_line(console, f"  {sys.argv[0]} up{again}")


@contextmanager
def _stack(data_dir: Path) -> Iterator[str]:
    """Run `gradfleet up` as a child process; yields the API's address."""
    data_dir.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "gradfleet", "up", "--port", "0", "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | SAFE_PATH,
        start_new_session=True,  # Ctrl-C reaches the demo only, which then stops the child
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
    raise typer.Exit(process.wait() or 1)  # it has printed the reason to standard error


def _groups(client: Client, losses: Sweep, data_dir: Path) -> list[Group]:
    """Read each classifier's jobs from the data directory."""
    from service.analysis.comparison_figure import Group  # noqa: PLC0415
    from service.analysis.replica import read_replica  # noqa: PLC0415
    from service.settings import Settings  # noqa: PLC0415
    from workers.data.dataset import DatasetInfo  # noqa: PLC0415

    settings = Settings(data_dir=data_dir.absolute())
    (digits,) = (each for each in client.datasets() if each["name"] == experiment.DATASET)
    path = settings.dataset_dir / f"{digits['digest']}.arrow"
    dataset = DatasetInfo.from_json({**digits, "path": str(path)})
    jobs = {job.id: job for job in losses.jobs()}
    groups = []
    for group in losses.comparison()["groups"]:
        replicas = [
            read_replica(settings.job_dir(job), job, jobs[job]["spec"], dataset, last=True) for job in group["jobs"]
        ]
        groups.append(Group(f"{group['loss']}-{experiment.model_of(group['overrides'])}", group["loss"], replicas))
    return groups


def _draw(path: Path, groups: Sequence[Group], accuracies: Sequence[Values]) -> None:
    from service.analysis.comparison_figure import draw_comparison  # noqa: PLC0415  slow to import
    from service.analysis.style import png  # noqa: PLC0415

    title = "Hinge against softmax on 1,797 handwritten digits: mean and standard deviation over the seeds"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        png(draw_comparison(title, groups, accuracies, metric="val/accuracy", by="mislabelled training rows"))
    )


def _wait_for_export(sweeps: Sequence[Sweep]) -> None:
    """Wait until the sweeps and their jobs have been exported to MLflow; TimeoutError if the export stalls."""
    last, deadline = -1, 0.0
    while (exported := sum(map(_exported, sweeps))) < len(sweeps) + sum(sum(sweep.counts.values()) for sweep in sweeps):
        if exported > last:
            last, deadline = exported, time.monotonic() + EXPORT_TIMEOUT
        if time.monotonic() > deadline:
            raise TimeoutError(f"no run was exported to MLflow for {EXPORT_TIMEOUT:g} s")
        time.sleep(0.5)


def _exported(sweep: Sweep) -> int:
    """The number of exported runs: of the sweep and of its jobs."""
    runs = [sweep.refresh()["mlflow"], *(member["mlflow"] for member in sweep.comparison()["members"])]
    return sum(run is not None and run["complete"] for run in runs)
