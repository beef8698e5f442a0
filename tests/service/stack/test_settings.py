from __future__ import annotations

import logging
import traceback
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from service.cli.main import app
from service.settings import Settings
from service.stack.app import create_app
from service.store import Database, migrate
from service.tracking import MlflowExporter
from tests.service.fixtures.support import served, wait_until


def test_everything_lies_below_the_data_directory_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLEET_DATA_DIR", "/data")
    settings = Settings()
    assert settings.database == "sqlite:////data/gradfleet.db"
    assert settings.allowed_roots == [Path("/data/uploads")]
    assert settings.job_dir("job_1") == Path("/data/jobs/job_1")
    assert settings.mlflow_link is None


@pytest.mark.parametrize(
    ("public", "link"),
    [(None, "http://mlflow:5000/base"), ("https://user:word@runs.example/", "https://runs.example")],
)
def test_links_to_mlflow_carry_no_credentials(public: str | None, link: str) -> None:
    settings = Settings(mlflow_url="http://admin:secret@mlflow:5000/base/", mlflow_public_url=public)
    assert settings.mlflow_link == link


PASSWORD = "Wort-3f9a"
DATABASE_URL = f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/name"


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", DATABASE_URL)
    monkeypatch.setenv("GRADFLEET_MLFLOW_URL", f"http://user:{PASSWORD}@127.0.0.1:1")
    return Settings(data_dir=tmp_path / "data")


def test_passwords_are_used_and_not_shown(secretive: Settings) -> None:
    assert secretive.database == DATABASE_URL
    assert PASSWORD not in f"{secretive!r} {secretive!s} {secretive.model_dump_json()} {secretive.mlflow_link}"


def test_passwords_get_into_no_log_and_no_answer(secretive: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OperationalError) as rejected:
        migrate(secretive.database)
    database = Database(secretive.database)
    exporter = MlflowExporter(database, secretive)
    exporter.start()
    try:
        with served(create_app(secretive, database=database)) as url:
            answers = [httpx.get(url + path) for path in ("/readyz", "/v1/jobs/x", "/v1/jobs")]
        wait_until(lambda: "the database does not respond" in caplog.text, "the exporter has logged its failure")
    finally:
        exporter.stop()
        database.close()
    assert [answer.is_server_error for answer in answers] == [True] * 3
    told = caplog.text + str(rejected.value) + "".join(answer.text for answer in answers)
    assert "127.0.0.1" in told, "nothing was logged of the connection: this test could not fail"
    assert PASSWORD not in told


@pytest.mark.parametrize("url", [f"postgresql://user:1@2:{PASSWORD}@host/name", f"postgresql//user:{PASSWORD}@host"])
def test_a_url_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", url)
    with pytest.raises(ValidationError, match="@ is written as %40") as caught:
        Settings()
    told = "".join(traceback.format_exception(caught.value))
    assert "database_url" in told
    assert PASSWORD not in told


@pytest.mark.usefixtures("secretive")
def test_a_command_that_fails_to_connect_tells_no_password(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tokens", "list", "--data-dir", str(tmp_path / "data")])
    assert done.exit_code == 1
    told = done.output + "".join(traceback.format_exception(done.exception))
    assert "127.0.0.1" in told
    assert PASSWORD not in told
