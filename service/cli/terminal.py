"""Output of the command line: text from users, files and the service, made safe for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console

from service.visible_text import visible

if TYPE_CHECKING:
    from typing import IO

    from rich.table import Table

PIPE_WIDTH = 1000


def console(*, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> Console:
    """Return a console that prints text as it is: without markup, emoji codes and highlighting."""
    return Console(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)


output = console()
errors = console(stderr=True)


def print_line(to: Console, text: str, style: str | None = None) -> None:
    """Print one line, whatever the text contains, without wrapping."""
    to.print(visible(text), markup=False, emoji=False, highlight=False, soft_wrap=True, style=style)


def say(text: str) -> None:
    """Print one line."""
    print_line(output, text)


def print_wide(table: Table) -> None:
    """Print a table; in a pipe, no column is truncated."""
    (output if output.is_terminal else console(width=PIPE_WIDTH)).print(table)


def writes_to_terminal() -> bool:
    """Whether standard output is a terminal; Rich also takes a pipe for one if FORCE_COLOR is set."""
    return typer.get_binary_stream("stdout").isatty()


def write(content: bytes) -> None:
    """Write data to standard output: as it is, except to a terminal."""
    if writes_to_terminal():
        for line in content.decode(errors="replace").splitlines():
            say(line)
    else:
        typer.get_binary_stream("stdout").write(content)


def warn(text: str) -> None:
    """Print one line to standard error."""
    print_line(errors, f"warning: {text}", "yellow")


def complain(*lines: str) -> None:
    """Print the lines of an error message."""
    first, *others = lines
    for line in (f"gradfleet: {first}", *others):
        print_line(errors, line, "red")


def fail(*lines: str, code: int = 1) -> NoReturn:
    """Print an error and exit."""
    complain(*lines)
    raise typer.Exit(code)
