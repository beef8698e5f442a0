"""The group of all commands: whatever goes wrong ends it with one message and an exit status."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from service.cli.terminal import complain

WRONG_USAGE, INTERRUPTED = 2, 130  # exit status


class CommandLine(TyperGroup):
    """All commands. An error of the command line, of a file or of the output is one sentence on standard error."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run a command and exit."""
        _prepare_streams()
        sys.exit(_status(lambda: super(CommandLine, self).main(*arguments, **options | {"standalone_mode": False})))


def _status(run: Any) -> int:
    """The exit status of a command."""
    try:
        status = run() or 0
        sys.stdout.flush()
    except TyperException as error:
        # Without a command the help is shown, and the error is empty.
        if message := error.format_message().strip():
            complain(f"{message.rstrip('.')}; see {_help(error)}")
        return error.exit_code
    except Abort:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return 1
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        _discard_output()
        return 1
    return int(status)


def _help(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"`{context.command_path if context else 'gradfleet'} --help`"


def _prepare_streams() -> None:
    """A closed stream takes anything, and one whose encoding lacks a character shows an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  open until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Nothing can be written any more: not what is left in the buffer either, at the end of the process."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
