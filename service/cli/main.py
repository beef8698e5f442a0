"""The command line: `gradfleet`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.certificates import certificates_app
from service.cli.command_line import CommandLine
from service.cli.datasets import datasets
from service.cli.demo.demo import demo
from service.cli.gradcheck import gradcheck
from service.cli.jobs import jobs_app
from service.cli.server.command import ServerCommand
from service.cli.server.migrate import migrate
from service.cli.server.serve import serve
from service.cli.server.tokens import tokens
from service.cli.server.up import up
from service.cli.sweeps import sweeps_app
from service.cli.terminal import say

app = typer.Typer(
    cls=CommandLine,
    help="Exact distributed batch training: jobs over REST, every loss recorded.",
    epilog="Exit status: 0 success; 1 rejected, or the service does not respond; 2 invalid command line; 3 the watched "
    "job, or a job of the watched sweep, failed or was cancelled; 130 interrupted. `verify` has its own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (up, serve, migrate, demo):
    app.command(cls=ServerCommand)(command)
app.add_typer(jobs_app)
app.add_typer(sweeps_app)
app.add_typer(certificates_app)
app.add_typer(datasets, name="datasets")
app.add_typer(tokens, name="tokens")
app.command()(gradcheck)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        say(f"gradfleet {version('gradfleet')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
