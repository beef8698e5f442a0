from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, select

from service.jobs.repository import count_by_state, create_job
from service.jobs.states import State
from service.store import Database, migrate
from service.store.migrate import MIGRATIONS
from service.store.models import Attempt, Base, Dataset, Job, MlflowRun
from service.tracking.backlog import pending_jobs

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


def test_the_comparison_sees_a_column_without_migration(database: Database) -> None:
    column = Column("forgotten", Integer)
    table = Base.metadata.tables["events"]
    table.append_column(column)
    try:
        assert [change[0] for change in differences(database) if isinstance(change, tuple)] == ["add_column"]
    finally:
        table._columns.remove(column)


def test_migrating_again_keeps_the_rows(settings: Settings, database: Database) -> None:
    with database.writing() as session:
        session.add(Dataset(name="d", path="p", digest="0", rows=1, features=1, classes=["a"], label="l", source="s"))
    migrate(settings.database)
    with database.reading() as session:
        assert session.get_one(Dataset, ("d", 1)).classes == ["a"]


def test_several_processes_migrate_at_once(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    program = "import sys; from service.store import migrate; migrate(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    database = Database(url)
    assert differences(database) == []
    database.close()
    postgres.drop_database(url)


def test_jobs_of_the_first_version_are_taken_along(settings: Settings, database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    assert differences(database), "the first version lacks columns"
    values = "'j', 'n', 'e', 'running', false, 1, '{}', '{}', 'b', 9, 0, 0, '{}', '2026-01-01'"
    columns = (
        "id, name, experiment, state, cancel_requested, attempt, spec, dataset, body_sha256, total_steps, epoch, step, "
        "latest_metrics, created_at"
    )
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO jobs ({columns}) VALUES ({values})")
        connection.exec_driver_sql("INSERT INTO attempts (job_id, number, started_at) VALUES ('j', 1, '2026-01-01')")
    migrate(settings.database)
    assert differences(database) == []
    with database.reading() as session:
        assert (session.get_one(Job, "j").restarts, session.get_one(Job, "j").labels) == (0, [])
        attempt = session.get_one(Attempt, ("j", 1))
        assert (attempt.supervisor, attempt.last_event) == (None, 0)


def test_jobs_that_mlflow_knows_are_taken_along(settings: Settings, database: Database) -> None:
    with database.writing() as session:
        for number, name in enumerate(["told", "behind", "untold"]):
            spec = {"name": name, "experiment": "e"}
            job, _ = create_job(session, spec=spec, dataset={}, total_steps=1, body_sha256="b")
            if number < 2:
                session.add(MlflowRun(job_id=job.id, experiment_id="1", run_id="r", status="RUNNING"))
            job.mlflow_finished = number == 0
            job.state = State.SUCCEEDED if number < 2 else State.CANCELLED
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
        finished = "SELECT name, finished FROM jobs LEFT JOIN mlflow_runs ON job_id = id ORDER BY id"
        rows = connection.exec_driver_sql(finished).all()
        assert [tuple(row) for row in rows] == [("told", 1), ("behind", 0), ("untold", None)]
    migrate(settings.database)
    assert differences(database) == []
    with database.reading() as session:
        finished_jobs = session.scalars(select(Job.name).where(Job.mlflow_finished)).all()
        assert finished_jobs == ["told"]
        assert len(pending_jobs(session)) == 2
        counts = count_by_state(session)
        assert {state: count for state, count in counts.items() if count} == {State.SUCCEEDED: 2, State.CANCELLED: 1}


def test_datasets_become_their_first_versions_and_the_newest_stay(settings: Settings, database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    row = {"path": "p", "rows": 1, "features": 1, "classes": ["a"], "source": "s"}
    with database.writing() as session:
        session.add(Dataset(name="d", digest="1", version=1, label="l", **row))
        session.add(Dataset(name="d", digest="2", version=2, label=None, **row))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0009")
        found = connection.exec_driver_sql("SELECT name, digest, label FROM datasets").all()
        assert [tuple(dataset) for dataset in found] == [("d", "2", "")]
    migrate(settings.database)
    assert differences(database) == []
    with database.reading() as session:
        dataset = session.get_one(Dataset, ("d", 1))
        assert (dataset.digest, dataset.classes, dataset.dtype, dataset.shape) == ("2", ["a"], "float32", None)
        assert (dataset.profile, dataset.format, dataset.targets) == (None, "parquet", 0)
        assert (dataset.split_column, dataset.splits) == (None, {})
        assert dataset.created_at.tzinfo is not None


def test_the_database_is_made_with_its_directory(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/deep/down/gradfleet.db")
    assert (tmp_path / "deep" / "down" / "gradfleet.db").exists()


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)])
def test_sqlite_is_set_up_to_be_durable(tmp_path: Path, pragma: str, value: object) -> None:
    database = Database(f"sqlite:///{tmp_path}/gradfleet.db")
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    database.close()
