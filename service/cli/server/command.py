"""Commands that need the extra `service`."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from service.cli.terminal import fail

if TYPE_CHECKING:
    from pathlib import Path

# Packages that only the extra installs.
PACKAGES = ("alembic", "fastapi", "matplotlib", "mlflow", "ray", "sklearn", "sqlalchemy", "uvicorn")

log = logging.getLogger(__name__)


class ServerCommand(TyperCommand):
    """A command that runs a service or changes its database; whatever prevents it is one message.

    It needs the extra `service`, settings that exist, a data directory that no other account can change, and a database
    of this release. Its files are private.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        if any(find_spec(name) is None for name in PACKAGES):
            fail(f"`{ctx.command_path}` needs the service: pip install 'gradfleet[service]'")
        from service.settings import unknown_variables  # noqa: PLC0415

        if unknown := unknown_variables(os.environ):
            fail("; ".join(unknown), code=2)
        os.umask(0o077)  # the files hold tokens, data and results: none for other accounts
        try:
            _check_data_directory(ctx.params.get("data_dir"))
            return super().invoke(ctx)
        except Exception as error:
            from service.cli.server.reasons import reason_of  # noqa: PLC0415

            reason = reason_of(error, ctx.params.get("data_dir"))
            if reason is None:
                raise
            log.info("the command ended with an error", exc_info=error)
            fail(reason)


def _check_data_directory(data_dir: Path | None) -> None:
    from service.settings import Settings  # noqa: PLC0415
    from service.stack.data_directory import check_data_directory  # noqa: PLC0415

    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    check_data_directory(settings.data_dir)
