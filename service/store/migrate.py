"""Migration of a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from service.store.database import IMMEDIATE, make_engine, unique_name

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x67726164666C6565  # "gradflee": PostgreSQL's advisory locks have numbers of 64 bits for names


class SchemaError(RuntimeError):
    """The database has a schema that this release does not know."""


def migrate(url: str) -> None:
    """Create the database if it does not exist and apply the missing migrations, in one transaction.

    Several processes that start at the same time migrate one after another. Raises SchemaError for a database of a
    release that this one does not know.
    """
    location = make_url(url)
    if location.get_backend_name() == "sqlite" and location.database:
        Path(location.database).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    engine = make_engine(url, unique_name())
    try:
        with engine.execution_options(**{IMMEDIATE: True}).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                shown = location.render_as_string(hide_password=True)
                raise SchemaError(f"the database {shown} was created by another release: {error}") from error
    finally:
        engine.dispose()
