"""A data directory can be moved: neither the database nor a file in it holds its path."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select

from service.scheduling.scheduler import Scheduler
from service.settings import Settings
from service.stack.app import create_app
from service.store import Database
from service.store.models import Base
from tests.service.fixtures.support import hinge_job, served, sqlite_template, wait_until, write_parquet
from workers.data.dataset import open_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.service.fakes.cluster import FakeCluster


@contextmanager
def service(directory: Path, **changes: Any) -> Iterator[tuple[httpx.Client, Settings, Database]]:
    """The API on a data directory, which is created if needed."""
    settings = Settings(data_dir=directory, **changes)
    if not directory.exists():
        (directory / "uploads").mkdir(parents=True)
        (directory / "gradfleet.db").write_bytes(sqlite_template())
    database = Database(settings.database)
    with served(create_app(settings, database=database)) as url, httpx.Client(base_url=url, timeout=30) as api:
        yield api, settings, database
    database.close()


def register(api: httpx.Client, path: str) -> httpx.Response:
    return api.post("/v1/datasets", json={"name": "digits", "path": path})


def texts_in(database: Database) -> str:
    with database.reading() as session:
        return repr([row for table in Base.metadata.sorted_tables for row in session.execute(select(table)).all()])


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """A data directory with a dataset and a queued job, under another path than that of the service that made it."""
    before, after = tmp_path / "before", tmp_path / "after"
    with service(before) as (api, _, database):
        write_parquet(before / "uploads" / "digits.parquet")
        assert register(api, "digits.parquet").status_code == 201
        assert api.get("/v1/datasets/digits/preview").status_code == 200
        assert api.post("/v1/jobs", json=hinge_job()).status_code == 201
        assert str(before) not in texts_in(database)
    before.rename(after)
    return after


def test_no_file_names_the_directory(moved: Path) -> None:
    files = [path for path in moved.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".db", ".arrow"}
    assert [path for path in files if b"/before" in path.read_bytes()] == []


def test_a_dataset_is_found_after_a_move(moved: Path) -> None:
    with service(moved) as (api, _, _):
        dataset = api.get("/v1/datasets/digits").json()
        assert dataset["source"] == "digits.parquet"
        assert len(api.get("/v1/datasets/digits/preview").json()["rows"]) == 5
        assert api.post("/v1/jobs/validate", json=hinge_job()).json()["train_rows"] == 240
        again = register(api, "digits.parquet")
        assert (again.status_code, again.json()["version"]) == (200, 1)


def test_a_file_that_was_lost_in_a_move_is_repaired_by_registering_again(moved: Path) -> None:
    (file,) = (moved / "datasets").glob("*.arrow")
    whole = file.read_bytes()
    shutil.rmtree(moved / "datasets")
    with service(moved) as (api, _, _):
        refused = api.get("/v1/datasets/digits/preview")
        assert (refused.status_code, "register the dataset again" in refused.json()["detail"]) == (409, True)
        assert register(api, "digits.parquet").json()["version"] == 1
        assert file.read_bytes() == whole
        assert api.get("/v1/datasets/digits/preview").status_code == 200


def start_the_job(settings: Settings, database: Database, cluster: FakeCluster) -> None:
    scheduler = Scheduler(database, settings, cluster)
    scheduler.start()
    try:
        wait_until(lambda: cluster.attempts, "the job starts")
    finally:
        scheduler.stop()


def test_a_job_that_waited_reads_its_data_where_they_are_now(moved: Path, cluster: FakeCluster) -> None:
    with service(moved) as (_, settings, database):
        start_the_job(settings, database, cluster)
    assignment = cluster.attempts[0].assignment
    assert assignment.directory.is_relative_to(moved)
    features, _ = open_dataset(assignment.dataset)
    assert features.shape == (300, 8)


def test_a_database_of_before_that_has_absolute_paths(moved: Path, cluster: FakeCluster) -> None:
    """Jobs that an earlier version stored have the path of the file in the snapshot of their dataset."""
    jobs = Base.metadata.tables["jobs"]
    with service(moved) as (_, settings, database):
        with database.writing() as session:
            snapshot = session.scalar(select(jobs.c.dataset))
            old = {**snapshot, "path": f"{moved.parent}/before/datasets/{snapshot['digest']}.arrow"}
            session.execute(jobs.update().values(dataset=old))
        start_the_job(settings, database, cluster)
    assert open_dataset(cluster.attempts[0].assignment.dataset)[0].shape == (300, 8)


def test_data_outside_the_directory_are_not_needed_after_registration(tmp_path: Path) -> None:
    """The rows are copied: only the description names where they came from, as it was given."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    write_parquet(shelf / "digits.parquet")
    with service(tmp_path / "before", data_roots=[shelf]) as (api, _, _):
        assert register(api, str(shelf / "digits.parquet")).status_code == 201
    (tmp_path / "before").rename(tmp_path / "after")
    (shelf / "digits.parquet").unlink()
    with service(tmp_path / "after", data_roots=[shelf]) as (api, _, _):
        assert api.get("/v1/datasets/digits").json()["source"] == "digits.parquet"
        assert api.get("/v1/datasets/digits/preview").status_code == 200
