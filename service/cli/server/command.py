"""Commands that need the extra `service`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from typer.core import TyperCommand

from service.cli.connection import fail

# Packages that only the extra installs.
PACKAGES = ("alembic", "fastapi", "matplotlib", "mlflow", "ray", "sklearn", "sqlalchemy", "uvicorn")


class ServerCommand(TyperCommand):
    """A command that ends with one message if the extra `service` is not installed."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        if any(find_spec(name) is None for name in PACKAGES):
            fail(f"`{ctx.command_path}` needs the service: pip install 'gradfleet[service]'")
        return super().invoke(ctx)
