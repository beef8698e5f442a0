"""Commands that need the extra `service`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from typer.core import TyperCommand

from service.cli.terminal import fail
from service.client import AddressError

# Packages that only the extra installs.
PACKAGES = ("alembic", "fastapi", "matplotlib", "mlflow", "ray", "sklearn", "sqlalchemy", "uvicorn")


class ServerCommand(TyperCommand):
    """A command that needs the extra `service` and a database of this release; without, it ends with one message."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        if any(find_spec(name) is None for name in PACKAGES):
            fail(f"`{ctx.command_path}` needs the service: pip install 'gradfleet[service]'")
        from service.store import SchemaError  # noqa: PLC0415

        try:
            return super().invoke(ctx)
        except (SchemaError, AddressError) as error:
            fail(str(error))
