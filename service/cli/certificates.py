"""Commands for certificates."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import DEFAULT_URL, Url, connected, spec_in
from service.cli.terminal import fail, say, write

if TYPE_CHECKING:
    from service.client import Job
    from service.client.views import Difference, Verification

certificates_app = typer.Typer()

CANNOT = 2  # exit status where a certificate cannot be verified
POLL_SECONDS = 0.5
NO_LEVEL = "waiting_for_arithmetic"


@certificates_app.command()
def certificate(
    job_id: Annotated[str, typer.Argument(help="Id of the job: job_...", show_default=False)], url: Url = DEFAULT_URL
) -> None:
    """Write the certificate of a job that has succeeded to standard output, as JSON."""
    with connected(url) as client:
        found = client.job(job_id).certificate()
    write((json.dumps(found, indent=2) + "\n").encode())


@certificates_app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="CERTIFICATE", help="Certificate in JSON.", show_default=False)],
    url: Url = DEFAULT_URL,
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes; no result depends on it.")] = 1,
) -> None:
    """Verify a certificate by running its job again on this service.

    The exit status is 0 if everything is equal, 1 if something differs, and 2 if it cannot be verified.
    """
    document = spec_in(file, code=CANNOT)
    with connected(url, code=CANNOT) as client:
        job = client.verify(document, workers=workers)
        say(f"{job.id} runs job {document['job']['id']} again")
        found = _followed(job)
    for note in found["notes"]:
        say(note)
    if found["equal"]:
        say(f"equal: {len(document['milestones'])} milestones, {len(document['series'])} series and the parameters")
        return
    if found["equal"] is None:
        fail(f"{job.id} {job.state}{f': {job.reason}' if job.reason else ''}: it cannot be verified", code=CANNOT)
    fail(*map(_line, found["differences"]))


def _followed(job: Job) -> Verification:
    """What is found once a job has ended, or the first step that differs is known: then it is cancelled."""
    shown = ""
    while True:
        found: Verification = job["verification"]
        line = f"{job.state}  step {job.progress['step']}/{job.progress['total_steps']}"
        if line != shown:
            say(line)
            shown = line
        first = found["first_difference"]
        if job.ended:
            return found
        if (first is not None and first["first_step"] is not None) or (job.reason or "").startswith(NO_LEVEL):
            reason = job.reason
            job.cancel()
            job.data["reason"] = reason  # why it cannot be verified, and not that it is cancelled
            return found
        time.sleep(POLL_SECONDS)
        job.refresh()


def _line(difference: Difference) -> str:
    return f"{difference['field']}: {difference['message']}"
