"""What the commands that ask a service have in common."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console

from service.cli.spec_file import SpecFileError, read_spec
from service.client import ApiError, Client, TokenFormError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

Url = Annotated[str, typer.Option(envvar="GRADFLEET_URL", help="Address of the API.")]
DEFAULT_URL = "http://127.0.0.1:8000"
SpecFile = Annotated[Path, typer.Argument(help="Spec, YAML or JSON.", show_default=False)]

JOB_FAILED = 3  # exit status

# At a terminal somebody waits: a service that is not there is reported within a second. `watch`, once begun, waits on.
RETRIES = 2

output = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """Client whose errors end the command with one clear message."""
    try:
        with Client(url, retries=RETRIES) as client:
            yield client
    except UnreachableError as error:
        hint = "; start the service with `gradfleet up`, or name another address with --url"
        fail(f"{error}{hint if isinstance(error.__cause__, httpx.ConnectError) else ''}")
    except httpx.InvalidURL as error:
        fail(f"{url} could not be asked: {error}")
    except (ApiError, TokenFormError) as error:
        fail(str(error))


def spec_in(file: Path) -> dict[str, Any]:
    """The spec in a file; the command ends where there is none."""
    try:
        return read_spec(file)
    except SpecFileError as error:
        fail(str(error))


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong and exit."""
    errors.print(f"gradfleet: {message}", markup=False, soft_wrap=True, style="red")
    raise typer.Exit(code)


def say(text: str) -> None:
    """Print a line as it is."""
    output.print(text, markup=False, soft_wrap=True)
