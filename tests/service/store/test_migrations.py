from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer

from service.store import Database, SchemaError, migrate
from service.store.models import Base, Token

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings
    from tests.fixtures.postgres import PostgresServer


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        return list(compare_metadata(context, Base.metadata))


def test_models_and_migrations_agree(database: Database) -> None:
    assert differences(database) == []


def test_the_comparison_finds_a_column_without_migration(database: Database) -> None:
    column = Column("forgotten", Integer)
    table = Base.metadata.tables["events"]
    table.append_column(column)
    try:
        assert [change[0] for change in differences(database) if isinstance(change, tuple)] == ["add_column"]
    finally:
        table._columns.remove(column)


def test_migrating_again_keeps_the_rows(settings: Settings, database: Database) -> None:
    with database.writing() as session:
        session.add(Token(id="t", name="n", role="read", secret_sha256="00"))
    migrate(settings.database)
    with database.reading() as session:
        assert session.get_one(Token, "t").name == "n"


def test_several_processes_migrate_concurrently(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    program = "import sys; from service.store import migrate; migrate(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    database = Database(url)
    assert differences(database) == []
    database.close()
    postgres.drop_database(url)


def test_a_database_of_a_newer_release_is_rejected(settings: Settings, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=r"was created by another release: .*9999"):
        migrate(settings.database)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"


def test_the_database_is_created_with_its_directory(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/deep/down/gradfleet.db")
    assert (tmp_path / "deep" / "down" / "gradfleet.db").exists()


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)])
def test_sqlite_is_configured_for_durability(tmp_path: Path, pragma: str, value: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/gradfleet.db")
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    database.close()
