"""The command line: `gradfleet`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from service.cli.demo import demo
from service.cli.gradcheck import gradcheck
from service.cli.live import follow
from service.cli.spec_file import SpecFileError, read_spec
from service.cli.up import up
from service.client import ApiError, Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JOB_FAILED = 3
WIDTH_OF_FILES = 1000

app = typer.Typer(
    help="Exact distributed batch training: jobs over REST, every loss recorded.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
datasets = typer.Typer(help="Register and list datasets.", no_args_is_help=True)
app.add_typer(datasets, name="datasets")
app.command()(up)
app.command()(demo)
app.command()(gradcheck)

Url = Annotated[str, typer.Option(envvar="GRADFLEET_URL", help="Address of the API.")]
JobId = Annotated[str, typer.Argument(help="Id of the job: job_...", show_default=False)]
DEFAULT_URL = "http://127.0.0.1:8000"

output = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """Client whose errors end the command with one clear message."""
    try:
        with Client(url) as client:
            yield client
    except httpx.ConnectError:
        fail(f"nothing answers at {url}; start the service with `gradfleet up`, or name another address with --url")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        fail(f"{url} could not be asked: {error}")
    except ApiError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Say what is wrong and exit with 1."""
    errors.print(f"gradfleet: {message}", markup=False, soft_wrap=True, style="red")
    raise typer.Exit(1)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Job spec, YAML or JSON.", show_default=False)], url: Url = DEFAULT_URL
) -> None:
    """Submit a job and print its id."""
    try:
        spec = read_spec(file)
    except SpecFileError as error:
        fail(str(error))
    with connected(url) as client:
        output.print(client.submit(spec)["id"], soft_wrap=True)


@app.command()
def jobs(url: Url = DEFAULT_URL, limit: Annotated[int, typer.Option(min=1, max=100)] = 20) -> None:
    """List the newest jobs."""
    with connected(url) as client:
        found = client.jobs(limit=limit)
    rows = []
    for job in found:
        done = job["progress"]
        steps = f"{done['step']}/{done['total_steps']}"
        figures = [_number(job["metrics"].get(name)) for name in ("train/loss", "val/accuracy")]
        rows.append((job["id"], job["name"], job["experiment"], job["state"], steps, *figures))
    _print_table(("id", "name", "experiment", "state", "steps", "train/loss", "val/accuracy"), rows)


@app.command()
def show(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Show everything about a job, as JSON."""
    with connected(url) as client:
        output.print(json.dumps(client.job(job_id), indent=2), markup=False, soft_wrap=True)


@app.command()
def watch(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Watch a job until it ends; exits with 3 when it did not succeed."""
    with connected(url) as client:
        (job,) = follow(client, [job_id], output)
    if job["state"] != "succeeded":
        reason = f": {job['reason']}" if job["reason"] else ""
        errors.print(f"gradfleet: job {job_id} {job['state']}{reason}", markup=False, soft_wrap=True, style="red")
        raise typer.Exit(JOB_FAILED)


@app.command()
def cancel(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Cancel a job."""
    with connected(url) as client:
        output.print(f"{job_id} {client.cancel(job_id)['state']}", soft_wrap=True)


@app.command()
def pause(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Pause a job: it frees its CPUs, and resuming it goes on from there."""
    with connected(url) as client:
        output.print(f"{job_id} {client.pause(job_id)['state']}", soft_wrap=True)


@app.command()
def resume(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    workers: Annotated[int | None, typer.Option(help="Go on with this many workers.", show_default=False)] = None,
) -> None:
    """Let a paused job go on."""
    with connected(url) as client:
        if workers is not None:
            client.resize(job_id, workers=workers)
        output.print(f"{job_id} {client.resume(job_id)['state']}", soft_wrap=True)


@app.command()
def resize(
    job_id: JobId,
    workers: Annotated[int, typer.Option(help="Worker processes.", show_default=False)],
    url: Url = DEFAULT_URL,
    cpus_per_worker: Annotated[
        int | None, typer.Option(help="Threads of shards in each worker.", show_default=False)
    ] = None,
) -> None:
    """Change the number of a job's workers, also while it runs. No result depends on it."""
    with connected(url) as client:
        resources = client.resize(job_id, workers=workers, cpus_per_worker=cpus_per_worker)["spec"]["resources"]
    output.print(f"{job_id} {resources['workers']} workers of {resources['cpus_per_worker']} CPUs", soft_wrap=True)


@datasets.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name under which jobs find it.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Parquet file below the service's uploads.", show_default=False)],
    label: Annotated[str, typer.Option(help="Column of the class.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Register a Parquet file on the service's machine under a name."""
    with connected(url) as client:
        dataset = client.register_dataset(name, file.absolute(), label)
    shape = f"{dataset['rows']} rows, {dataset['features']} features, {len(dataset['classes'])} classes"
    output.print(f"{dataset['name']}: {shape}", markup=False, soft_wrap=True)


@datasets.command("list")
def list_datasets(url: Url = DEFAULT_URL) -> None:
    """List the datasets."""
    with connected(url) as client:
        found = client.datasets()
    rows = [
        (entry["name"], str(entry["rows"]), str(entry["features"]), str(len(entry["classes"])), entry["label"])
        for entry in found
    ]
    _print_table(("name", "rows", "features", "classes", "label"), rows)


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    # The first column is what other commands are given: it is never shortened, nor is any where a program reads.
    table = Table(Column(columns[0], no_wrap=True, min_width=max(len(row[0]) for row in [columns, *rows])), box=None)
    for column in columns[1:]:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    (output if output.is_terminal else Console(width=WIDTH_OF_FILES)).print(table, highlight=False)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    app()
