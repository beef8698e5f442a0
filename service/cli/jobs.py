"""Commands for jobs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import DEFAULT_URL, JOB_FAILED, SpecFile, Url, connected, spec_in
from service.cli.live.live import follow
from service.cli.tables import figure, print_table
from service.cli.terminal import fail, output, say, warn, write, writes_to_terminal
from service.client.job import ARROW
from service.short_text import counted

if TYPE_CHECKING:
    from service.client import Job

jobs_app = typer.Typer()

MOST_COLUMNS = 100  # that `validate` shows

JobId = Annotated[str, typer.Argument(help="Id of the job: job_...", show_default=False)]

JobOrSweepId = Annotated[str, typer.Argument(metavar="ID", help="Id of a job or sweep.", show_default=False)]


class Format(StrEnum):
    """Format of points."""

    CSV = "csv"
    ARROW = "arrow"


class Kind(StrEnum):
    """Kind of a job's files."""

    MODEL = "model"
    CHECKPOINT = "checkpoint"
    SPEC = "spec"
    EVALUATION = "evaluation"
    HISTORY = "history"
    CERTIFICATE = "certificate"
    PICTURES = "pictures"


MEDIA_TYPES = {Format.CSV: "text/csv", Format.ARROW: ARROW}


@jobs_app.command()
def submit(
    file: SpecFile,
    url: Url = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the job until it ends, as `watch` does.")] = False,
) -> None:
    """Submit a job and print its id."""
    spec = spec_in(file)
    with connected(url) as client:
        job = client.submit(spec)
        say(job.id)
        if watch:
            _watch(job)


@jobs_app.command()
def validate(file: SpecFile, url: Url = DEFAULT_URL) -> None:
    """Show what would run if a job were submitted; nothing runs."""
    spec = spec_in(file)
    with connected(url) as client:
        preview = client.validate(spec)
    if prepared := preview.get("prepared", []):
        columns = [
            (each["column"], each["kind"], f"{each['first']}-{each['first'] + each['width'] - 1}", each["prepared"])
            for each in prepared[:MOST_COLUMNS]
        ]
        print_table(("column", "kind", "numbers", "prepared"), columns)
        if len(prepared) > MOST_COLUMNS:
            say(f"and {len(prepared) - MOST_COLUMNS:,} more columns")
    rows = [
        (layer["name"], layer["type"], " x ".join(map(str, layer["shape"])), f"{layer['parameters']:,}")
        for layer in preview["layers"]
    ]
    print_table(("layer", "type", "output", "parameters"), rows)
    positive = preview.get("positive_class")
    task = f"{preview['task']}, positive class {positive}" if positive is not None else preview["task"]
    say(f"{task}; metrics: {', '.join(preview['metrics']) or 'none, without validation rows'}")
    memory = preview["memory_per_worker_bytes"] / 2**20
    say(f"{counted(preview['parameters'], 'parameter')}, {memory:,.1f} MiB in each worker")
    say(f"{counted(preview['train_rows'], 'row')} to train on, {preview['validation_rows']:,} to validate on")
    say(f"{counted(preview['total_steps'], 'step')}, {preview['steps_per_epoch']:,} in each epoch")
    for warning in preview["warnings"]:
        warn(f"{warning['field']}: {warning['message']}")


@jobs_app.command()
def jobs(
    url: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 20,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.", show_default=False)] = None,
    experiment: Annotated[str | None, typer.Option(help="Only jobs of this experiment.", show_default=False)] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only jobs with this label, key:value; repeatable.", show_default=False)
    ] = None,
) -> None:
    """List the newest jobs: each with the metric of its task, of the parameters that are kept and of the last ones."""
    labels = {}
    for text in label or []:
        key, colon, labels[key] = text.partition(":")
        if not colon:
            raise typer.BadParameter(
                f"must be a key and a value, such as team:vision, not {text!r}", param_hint="--label"
            )
    with connected(url) as client:
        found = list(client.jobs(state=state, experiment=experiment, labels=labels, limit=limit))
    rows = []
    for job in found:
        steps = f"{job.progress['step']}/{job.progress['total_steps']}"
        metric = job["ranked_by"] or ""
        of_kept = job.kept["metrics"].get(metric) if job.kept else None
        figures = [_number(job.latest.get("train/loss")), metric, _number(of_kept), _number(job.latest.get(metric))]
        rows.append((job.id, job.name, job["experiment"], job.state, steps, *figures))
    print_table(("id", "name", "experiment", "state", "steps", "train/loss", "metric", "kept", "last"), rows)


@jobs_app.command()
def show(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Show all fields of a job as JSON."""
    with connected(url) as client:
        for line in json.dumps(client.job(job_id).data, indent=2).split("\n"):
            say(line)


@jobs_app.command()
def watch(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Watch a job until it ends. The exit status is 3 if it does not succeed."""
    with connected(url) as client:
        _watch(client.job(job_id))


@jobs_app.command()
def metrics(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    form: Annotated[Format, typer.Option("--format", help="CSV text or an Arrow stream.")] = Format.CSV,
    name: Annotated[list[str] | None, typer.Option(help="Only this series; repeatable.", show_default=False)] = None,
) -> None:
    """Write the points of a job to standard output."""
    if form is Format.ARROW and writes_to_terminal():
        fail("an Arrow stream is binary; write it to a file: gradfleet metrics ... > metrics.arrow")
    with connected(url) as client:
        write(client.job(job_id).export_metrics(MEDIA_TYPES[form], name))


@jobs_app.command()
def download(
    job_id: JobId,
    directory: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for the files; default: the job's id.")
    ] = None,
    only: Annotated[
        list[Kind] | None, typer.Option(help="Only files of this kind; repeatable.", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Save a job's trained model, checkpoint, spec, evaluation, history, certificate and pictures.

    A job that has not ended has the files that are there so far. A file that is there already is not fetched again.
    """
    kinds = [kind.value for kind in only or ()]
    with connected(url) as client:
        job = client.job(job_id)
        for each in job.artifacts(kinds)["missing"]:
            warn(f"{each['path'] or each['kind']}: {each['reason']}")
        saved = job.download(directory or job_id, kinds)
    for file in saved:
        say(str(file))
    if not saved:
        fail(f"job {job.id} is {job.state} and has no such files, or not yet")


@jobs_app.command()
def cancel(
    job_id: JobOrSweepId,
    url: Url = DEFAULT_URL,
) -> None:
    """Cancel a job, or every job of a sweep that has not ended."""
    with connected(url) as client:
        found = client.find_sweep(job_id) if job_id.startswith("sweep_") else client.job(job_id)
        say(f"{job_id} {found.cancel().state}")


@jobs_app.command()
def pause(job_id: JobId, url: Url = DEFAULT_URL) -> None:
    """Pause a job: it writes a checkpoint and frees its CPUs."""
    with connected(url) as client:
        say(f"{job_id} {client.job(job_id).pause().state}")


@jobs_app.command()
def resume(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    workers: Annotated[int | None, typer.Option(help="Number of workers from now on.", show_default=False)] = None,
) -> None:
    """Resume a paused job from its checkpoint."""
    with connected(url) as client:
        job = client.job(job_id)
        if workers is not None:
            job.resize(workers=workers)
        say(f"{job_id} {job.resume().state}")


@jobs_app.command()
def resize(
    job_id: JobId,
    workers: Annotated[int, typer.Option(help="Number of worker processes.", show_default=False)],
    url: Url = DEFAULT_URL,
    cpus_per_worker: Annotated[
        int | None, typer.Option(help="Number of threads in each worker.", show_default=False)
    ] = None,
) -> None:
    """Change a job's number of workers, even while it runs. Results do not depend on it."""
    with connected(url) as client:
        job = client.job(job_id).resize(workers=workers, cpus_per_worker=cpus_per_worker)
    resources = job["spec"]["resources"]
    say(f"{job_id} {counted(resources['workers'], 'worker')} of {counted(resources['cpus_per_worker'], 'CPU')}")


@jobs_app.command()
def delete(job_id: JobOrSweepId, url: Url = DEFAULT_URL) -> None:
    """Delete a job that has ended, with its metrics, events, checkpoints and results; or a sweep with all its jobs."""
    with connected(url) as client:
        if job_id.startswith("sweep_"):
            found = client.find_sweep(job_id)
            found.delete()
            say(f"{job_id} deleted, with {counted(sum(found.counts.values()), 'job')}")
        else:
            client.job(job_id).delete()
            say(f"{job_id} deleted")


def _watch(job: Job) -> None:
    follow([job], output)
    if job.state != "succeeded":
        fail(f"job {job.id} {job.state}{f': {job.reason}' if job.reason else ''}", code=JOB_FAILED)


def _number(value: float | None) -> str:
    return "" if value is None else figure(value)
