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
    from collections.abc import Iterator, Sequence

    from service.client import Job
    from service.client.views import Difference, Interval, Sample, Verification

certificates_app = typer.Typer()

CANNOT = 2  # exit status where a certificate cannot be verified
POLL_SECONDS = 0.5
MOST_SPANS = 20  # in a line
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
    sample: Annotated[
        int | None,
        typer.Option(min=1, max=1000, metavar="K", help="Replay only K random intervals between its checkpoints."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Choose the intervals that an earlier sample with this seed had.")
    ] = None,
) -> None:
    """Verify a certificate by running its job again on this service.

    The exit status is 0 if everything is equal, 1 if something differs, and 2 if it cannot be verified.
    """
    document = spec_in(file, code=CANNOT)
    with connected(url, code=CANNOT) as client:
        job, of = client.verify(document, workers=workers, sample=sample, seed=seed), document["job"]["id"]
        chosen = job["verification"]["sample"]
        say(f"{job.id} runs job {of} again" if chosen is None else f"{job.id} replays {_choice(chosen)} of job {of}")
        found = _followed(job)
    for note in found["notes"]:
        say(note)
    if found["sample"] is not None:
        for line in _coverage(found["sample"]):
            say(line)
    if found["equal"]:
        whole = f"{len(document['milestones'])} milestones, {len(document['series'])} series and the parameters"
        say(f"equal: {whole if found['sample'] is None else 'the steps that were replayed'}")
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
        located = first is not None and first["first_step"] is not None and found["sample"] is None
        if located or (job.reason or "").startswith(NO_LEVEL):
            reason = job.reason
            job.cancel()
            job.data["reason"] = reason  # why it cannot be verified, and not that it is cancelled
            return found
        time.sleep(POLL_SECONDS)
        job.refresh()


def _choice(sample: Sample) -> str:
    count, seed = len(sample["chosen"]), sample["seed"]
    return f"{count} of {sample['intervals']} intervals ({_steps(sample['chosen'])}; --seed {seed} chooses them again)"


def _coverage(sample: Sample) -> Iterator[str]:
    """What a sample says, and what it does not say."""
    replayed, total, here = sample["replayed_steps"], sample["total_steps"], sample["replayable"]
    yield f"replayed {replayed:,} of {total:,} steps ({replayed / total:.1%})"
    if sample["not_covered"]:
        yield f"not covered: {_steps(sample['not_covered'])}"
    found = f"a change in one of the {here:,} intervals that can be replayed here is found with probability"
    yield f"{found} {sample['probability']:.1%}"
    if missing := sample["intervals"] - here:
        yield f"no change is found in the other {missing:,}: their first checkpoints are not at this service"


def _steps(intervals: Sequence[Interval]) -> str:
    spans = [f"{each['after_step']:,} to {each['by_step']:,}" for each in intervals[:MOST_SPANS]]
    more = [f"{len(intervals) - MOST_SPANS:,} more"] if len(intervals) > MOST_SPANS else []
    return f"steps {', '.join([*spans, *more])}"


def _line(difference: Difference) -> str:
    return f"{difference['field']}: {difference['message']}"
