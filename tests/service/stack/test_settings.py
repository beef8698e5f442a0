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


def test_all_files_are_in_the_data_directory_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_links_to_mlflow_have_no_credentials(public: str | None, link: str) -> None:
    settings = Settings(mlflow_url="http://admin:secret@mlflow:5000/base/", mlflow_public_url=public)
    assert settings.mlflow_link == link


PASSWORD = "Wort-3f9a"
DATABASE_URL = f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/name"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", DATABASE_URL)
    monkeypatch.setenv("GRADFLEET_MLFLOW_URL", f"http://user:{PASSWORD}@127.0.0.1:1")
    return Settings(data_dir=tmp_path / "data")


def test_passwords_are_used_and_not_shown(settings: Settings) -> None:
    assert settings.database == DATABASE_URL
    assert PASSWORD not in f"{settings!r} {settings!s} {settings.model_dump_json()} {settings.mlflow_link}"


def test_passwords_are_not_in_logs_and_responses(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OperationalError) as caught:
        migrate(settings.database)
    database = Database(settings.database)
    exporter = MlflowExporter(database, settings)
    exporter.start()
    try:
        with served(create_app(settings, database=database)) as url:
            answers = [httpx.get(url + path) for path in ("/readyz", "/v1/jobs/x", "/v1/jobs")]
        wait_until(lambda: "the database does not respond" in caplog.text, "the exporter has logged its failure")
    finally:
        exporter.stop()
        database.close()
    assert [answer.is_server_error for answer in answers] == [True] * 3
    output = caplog.text + str(caught.value) + "".join(answer.text for answer in answers)
    assert "127.0.0.1" in output, "the failed connection must be logged, or the test cannot fail"
    assert PASSWORD not in output


@pytest.mark.parametrize("url", [f"postgresql://user:1@2:{PASSWORD}@host/name", f"postgresql//user:{PASSWORD}@host"])
def test_an_invalid_url_is_not_in_the_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GRADFLEET_DATABASE_URL", url)
    with pytest.raises(ValidationError, match="@ is written as %40") as caught:
        Settings()
    output = "".join(traceback.format_exception(caught.value))
    assert "database_url" in output
    assert PASSWORD not in output


@pytest.mark.usefixtures("settings")
def test_a_command_that_cannot_connect_prints_no_password(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tokens", "list", "--data-dir", str(tmp_path / "data")])
    assert done.exit_code == 1
    output = done.output + "".join(traceback.format_exception(done.exception))
    assert "127.0.0.1" in output
    assert PASSWORD not in output
