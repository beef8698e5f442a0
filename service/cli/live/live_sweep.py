"""Live view of a sweep: progress bars for the sweep and each running job; elsewhere a line for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import Progress

from service.cli.live.live import COLUMNS, figures
from service.cli.terminal import print_line
from service.client.views import STOPPED, TERMINAL

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from service.client import Sweep

MAX_BARS = 16  # of jobs; more would not fit into a terminal


def follow_sweep(sweep: Sweep, console: Console) -> None:
    """Show a sweep until all its jobs have ended."""
    show = _show_bars if console.is_terminal else _show_lines
    show(sweep, console)


def _show_bars(sweep: Sweep, console: Console) -> None:
    with Progress(*COLUMNS, console=console) as progress:
        whole = progress.add_task(sweep.name, total=sum(sweep.counts.values()), text="")
        bars: dict[str, TaskID] = {}
        for seen in sweep.watch():
            progress.update(whole, total=sum(seen.counts.values()), completed=_ended(seen), text=counts_of(seen))
            running = {job.id: job for job in seen.jobs(state="running")[:MAX_BARS]}
            for job_id in bars.keys() - running.keys():
                progress.remove_task(bars.pop(job_id))
            for job_id, job in running.items():
                if job_id not in bars:
                    bars[job_id] = progress.add_task(f"  {job.name}", total=None, text="")
                done = job.progress
                progress.update(
                    bars[job_id], total=done["total_steps"], completed=done["step"], text="  ".join(figures(job))
                )


def _show_lines(sweep: Sweep, console: Console) -> None:
    shown = None
    for seen in sweep.watch():
        if seen.counts != shown:
            shown = seen.counts
            line = f"{seen.name}  {seen.state}  {_ended(seen)}/{sum(shown.values())} ended  {counts_of(seen)}"
            print_line(console, line)


def _ended(sweep: Sweep) -> int:
    return sum(count for state, count in sweep.counts.items() if state in TERMINAL | {STOPPED})


def counts_of(sweep: Sweep) -> str:
    """The number of jobs in each state, as text."""
    return ", ".join(f"{count} {state}" for state, count in sweep.counts.items())
