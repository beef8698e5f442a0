"""The live view of jobs: one bar each in a terminal, one line per news elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.client import POLL_SECONDS, TERMINAL, Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

SHOWN = {"train/loss": "train loss", "val/accuracy": "val accuracy"}


def follow(client: Client, job_ids: Sequence[str], console: Console) -> list[dict[str, Any]]:
    """Show jobs until all have ended; gives them in the order of `job_ids`."""
    show = _show_bars if console.is_terminal else _show_lines
    return show(client, job_ids, console)


def _show_bars(client: Client, job_ids: Sequence[str], console: Console) -> list[dict[str, Any]]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[news]}", markup=False),
        TimeElapsedColumn(),
    )
    jobs: list[dict[str, Any]] = []
    with Progress(*columns, console=console) as progress:
        bars = [progress.add_task(job_id, total=None, news="") for job_id in job_ids]
        for jobs in _looks(client, job_ids):
            for bar, job in zip(bars, jobs, strict=True):
                done = job["progress"]
                news = "  ".join([job["state"], *_figures(job)])
                progress.update(
                    bar, description=job["name"], total=done["total_steps"], completed=done["step"], news=news
                )
                if job["state"] in TERMINAL:
                    progress.stop_task(bar)
    return jobs


def _show_lines(client: Client, job_ids: Sequence[str], console: Console) -> list[dict[str, Any]]:
    told: dict[str, tuple[str, int]] = {}
    jobs: list[dict[str, Any]] = []
    for jobs in _looks(client, job_ids):
        for job in jobs:
            done, news = job["progress"], (job["state"], job["progress"]["epoch"])
            if told.get(job["id"]) != news:
                told[job["id"]] = news
                steps = f"step {done['step']}/{done['total_steps']}"
                line = "  ".join([job["name"], job["state"], f"epoch {done['epoch']}", steps, *_figures(job)])
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    return jobs


def _looks(client: Client, job_ids: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The jobs again and again; the last time when all have ended."""
    jobs = {job_id: client.job(job_id) for job_id in job_ids}
    while True:
        yield [jobs[job_id] for job_id in job_ids]
        lasting = [job_id for job_id, job in jobs.items() if job["state"] not in TERMINAL]
        if not lasting:
            return
        time.sleep(POLL_SECONDS)
        jobs |= {job_id: client.job(job_id) for job_id in lasting}


def _figures(job: dict[str, Any]) -> list[str]:
    values = ((title, job["metrics"].get(name)) for name, title in SHOWN.items())
    return [f"{title} {value:.4f}" for title, value in values if value is not None]
