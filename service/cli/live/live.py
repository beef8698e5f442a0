"""The live view of jobs: one bar each in a terminal, one line per news elsewhere."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from service.client import Job

SHOWN = {"train/loss": "train loss", "val/accuracy": "val accuracy"}
COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[news]}", markup=False),
    TimeElapsedColumn(),
)


def follow(jobs: Sequence[Job], console: Console) -> None:
    """Show jobs until all have ended."""
    show = _show_bars if console.is_terminal else _show_lines
    show(jobs, console)


def _show_bars(jobs: Sequence[Job], console: Console) -> None:
    with Progress(*COLUMNS, console=console) as progress:
        bars = {job.id: progress.add_task(job.name, total=None, news="") for job in jobs}
        for job in _news(jobs):
            done, news = job.progress, "  ".join([job.state, *figures(job)])
            progress.update(bars[job.id], total=done["total_steps"], completed=done["step"], news=news)
            if job.ended:
                progress.stop_task(bars[job.id])


def _show_lines(jobs: Sequence[Job], console: Console) -> None:
    told: dict[str, tuple[str, int]] = {}
    for job in _news(jobs):
        done, news = job.progress, (job.state, job.progress["epoch"])
        if told.get(job.id) != news:
            told[job.id] = news
            steps = f"step {done['step']}/{done['total_steps']}"
            line = "  ".join([job.name, job.state, f"epoch {done['epoch']}", steps, *figures(job)])
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _news(jobs: Sequence[Job]) -> Iterator[Job]:
    """Each job, whenever there is news of it, until all have ended."""
    if len(jobs) == 1:
        yield from jobs[0].watch()
        return
    news: SimpleQueue[Job | Exception | None] = SimpleQueue()

    def watch(job: Job) -> None:
        try:
            for seen in job.watch():
                news.put(seen)
            news.put(None)
        except Exception as error:  # noqa: BLE001  it is raised again where the news are read
            news.put(error)

    for job in jobs:
        # Ctrl-C is not to wait for a stream that may be silent for long.
        threading.Thread(target=watch, args=[job], daemon=True).start()
    lasting = len(jobs)
    while lasting:
        match news.get():
            case None:
                lasting -= 1
            case Exception() as error:
                raise error
            case job:
                yield job


def figures(job: Job) -> list[str]:
    """The latest values that tell most, with their names."""
    values = ((title, job.latest.get(name)) for name, title in SHOWN.items())
    return [f"{title} {value:.4f}" for title, value in values if value is not None]
