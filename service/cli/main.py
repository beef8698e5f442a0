"""The command line: `gradfleet`."""

from __future__ import annotations

import typer

from service.cli.datasets import datasets
from service.cli.demo.demo import demo
from service.cli.gradcheck import gradcheck
from service.cli.jobs import jobs_app
from service.cli.server.migrate import migrate
from service.cli.server.serve import serve
from service.cli.server.tokens import tokens
from service.cli.server.up import up
from service.cli.sweeps import sweeps_app

app = typer.Typer(
    help="Exact distributed batch training: jobs over REST, every loss recorded.",
    epilog="Exit status: 0 done; 1 refused, or the service does not answer; 2 a wrong command line; 3 the job that was "
    "watched has failed or was cancelled, or one of the sweep's.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(serve)
app.command()(migrate)
app.command()(demo)
app.add_typer(jobs_app)
app.add_typer(sweeps_app)
app.add_typer(datasets, name="datasets")
app.add_typer(tokens, name="tokens")
app.command()(gradcheck)


if __name__ == "__main__":
    app()
