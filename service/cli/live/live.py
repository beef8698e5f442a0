"""Live view of jobs: a progress bar for each in a terminal, a line for each change elsewhere."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from service.cli.tables import figure
from service.cli.terminal import print_line
from service.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from service.client import Job


class _Text(TextColumn):
    """Text on one line, whatever it contains."""

    def render(self, task: Task) -> Text:
        return Text(visible(self.text_format.format(task=task)), no_wrap=True)


COLUMNS = (
    _Text("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    _Text("{task.fields[text]}"),
    TimeElapsedColumn(),
)


def follow(jobs: Sequence[Job], console: Console) -> None:
    """Show jobs until all have ended."""
    show = _show_bars if console.is_terminal else _show_lines
    show(jobs, console)


def _show_bars(jobs: Sequence[Job], console: Console) -> None:
    with Progress(*COLUMNS, console=console) as progress:
        bars = {job.id: progress.add_task(job.name, total=None, text="") for job in jobs}
        for job in _changes(jobs):
            done, text = job.progress, "  ".join([job.state, *figures(job)])
            progress.update(bars[job.id], total=done["total_steps"], completed=done["step"], text=text)
            if job.ended:
                progress.stop_task(bars[job.id])


def _show_lines(jobs: Sequence[Job], console: Console) -> None:
    shown: dict[str, tuple[str, int]] = {}
    for job in _changes(jobs):
        done, change = job.progress, (job.state, job.progress["epoch"])
        if shown.get(job.id) != change:
            shown[job.id] = change
            steps = f"step {done['step']}/{done['total_steps']}"
            line = "  ".join([job.name, job.state, f"epoch {done['epoch']}", steps, *figures(job)])
            print_line(console, line)


def _changes(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield each job whenever it has changed, until all have ended."""
    if len(jobs) == 1:
        yield from jobs[0].watch()
        return
    queue: SimpleQueue[Job | Exception | None] = SimpleQueue()

    def watch(job: Job) -> None:
        try:
            for seen in job.watch():
                queue.put(seen)
            queue.put(None)
        except Exception as error:  # noqa: BLE001 - raised again by the reader of the queue
            queue.put(error)

    for job in jobs:
        # Daemon threads: Ctrl-C does not wait for a stream that is silent.
        threading.Thread(target=watch, args=[job], daemon=True).start()
    watched = len(jobs)
    while watched:
        match queue.get():
            case None:
                watched -= 1
            case Exception() as error:
                raise error
            case job:
                yield job


def figures(job: Job) -> list[str]:
    """The loss and the metric of the job's task, with their names: the last values, and that of the kept parameters."""
    metric = job["ranked_by"] or ""
    values = [(_words(name), job.latest.get(name)) for name in ("train/loss", metric)]
    if job.kept is not None:
        values.append((f"kept {_words(metric)}", job.kept["metrics"].get(metric)))
    return [f"{title} {figure(value)}" for title, value in values if value is not None]


def _words(metric: str) -> str:
    return metric.replace("/", " ").replace("_", " ")
