"""Options and connection of the commands that talk to a service."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from service.cli.spec_file import SpecFileError, read_spec
from service.cli.terminal import fail
from service.client import ApiError, Client, GradfleetError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

Url = Annotated[str, typer.Option(envvar="GRADFLEET_URL", help="Address of the API.")]
DEFAULT_URL = "http://127.0.0.1:8000"
SpecFile = Annotated[Path, typer.Argument(help="Spec in YAML or JSON.", show_default=False)]

JOB_FAILED = 3  # exit status

# A user is waiting, so an unreachable service is reported within a second. While `watch` runs, it waits longer.
RETRIES = 2


@contextmanager
def connected(url: str, *, code: int = 1) -> Iterator[Client]:
    """Yield a client whose errors end the command with a message and an exit status."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(Client(url, retries=RETRIES))
        except KeyboardInterrupt:
            # Closing could wait forever for a lock of the connection pool that the interrupted request holds.
            stack.pop_all()
            raise
        except UnreachableError as error:
            hint = "; start the service with `gradfleet up`, or give another address with --url"
            fail(f"{error}{hint if isinstance(error.__cause__, httpx.ConnectError) else ''}", code=code)
        except ApiError as error:
            fail(*error.lines, code=code)
        except GradfleetError as error:
            fail(str(error), code=code)


def spec_in(file: Path, *, code: int = 1) -> dict[str, Any]:
    """Read the spec in a file; end the command with a message if there is none."""
    try:
        return read_spec(file)
    except SpecFileError as error:
        fail(*error.lines, code=code)
