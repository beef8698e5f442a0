"""Commands for sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.comparison import comparison_csv, print_comparison
from service.cli.connection import DEFAULT_URL, JOB_FAILED, SpecFile, Url, connected, spec_in
from service.cli.live.live_sweep import counts_of, follow_sweep
from service.cli.tables import print_table
from service.cli.terminal import fail, output, say, write

if TYPE_CHECKING:
    from service.client import Sweep

sweeps_app = typer.Typer()

SweepId = Annotated[str, typer.Argument(help="Id of the sweep: sweep_...", show_default=False)]


@sweeps_app.command()
def sweep(
    file: SpecFile,
    url: Url = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it until it ends, and compare its jobs.")] = False,
) -> None:
    """Submit a sweep and print its id."""
    spec = spec_in(file)
    with connected(url) as client:
        made = client.sweep(spec)
        say(made.id)
        if watch:
            _watch(made)


@sweeps_app.command()
def sweeps(url: Url = DEFAULT_URL, limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 20) -> None:
    """List the newest sweeps."""
    with connected(url) as client:
        found = list(client.sweeps(limit=limit))
    rows = [(each.id, each.name, each["experiment"], each.state, counts_of(each)) for each in found]
    print_table(("id", "name", "experiment", "state", "jobs"), rows)


@sweeps_app.command()
def compare(
    sweep_id: SweepId,
    url: Url = DEFAULT_URL,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric for the best, such as val/loss; default: by the jobs' task.", show_default=False),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every metric as CSV.")] = False,
) -> None:
    """Compare the jobs of a sweep, grouped over seeds, and show the best group of each loss."""
    with connected(url) as client:
        comparison = client.find_sweep(sweep_id).comparison(metric)
    if as_csv:
        write(comparison_csv(comparison).encode())
    else:
        print_comparison(comparison)


def _watch(made: Sweep) -> None:
    follow_sweep(made, output)
    print_comparison(made.comparison())
    if made.state != "succeeded":
        fail(f"sweep {made.id} {made.state}: {counts_of(made)}", code=JOB_FAILED)
