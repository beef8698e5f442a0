"""Runs the examples of docs/client.md in order against a real API. A thread replaces the scheduler."""

from __future__ import annotations

import re
import shlex
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from service.cli.jobs import jobs_app
from service.cli.main import app as command_line
from service.client import Client
from service.jobs.states import State
from tests.service.conftest import api, app, database, digits, mlflow_url, notifications, settings
from tests.service.fixtures.support import train

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from service.store import Database

__all__ = ["api", "app", "database", "digits", "mlflow_url", "notifications", "settings"]  # the fixtures

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def database_url() -> str | None:
    """Use the default of the settings."""
    return None


@contextmanager
def jobs_that_train(client: Client, database: Database) -> Iterator[None]:
    """Let queued jobs succeed immediately."""
    stop = threading.Event()

    def schedule() -> None:
        while not stop.wait(0.01):
            for job in client.jobs(state="queued"):
                train(database, job.id, State.SUCCEEDED)

    thread = threading.Thread(target=schedule)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("digits")
def test_examples_run(
    api: httpx.Client,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = str(api.base_url).rstrip("/")
    monkeypatch.setenv("GRADFLEET_URL", url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with Client(url) as client:
        for language, block in BLOCKS:
            if language == "python":
                code = compile(block.replace("http://127.0.0.1:8000", url), "docs/client.md", "exec")
                if re.search(r"\.(wait|watch|events)\(", block):
                    with jobs_that_train(client, database):
                        exec(code, names)
                else:
                    exec(code, names)
            else:
                (tmp_path / "job.yaml").write_text(yaml.safe_dump(names["spec"]))
                with jobs_that_train(client, database):
                    run_commands(block, next(client.jobs(state="succeeded")).id)
        names["client"].close()
    printed = capsys.readouterr().out
    assert "422 training.epochs: must be at least 1, not 0" in printed
    assert "succeeded 20 0.25" in printed
    assert "val/accuracy 20 0.5" in printed
    assert "state succeeded" in printed


def run_commands(block: str, job_id: str) -> None:
    for line in block.splitlines():
        program, *arguments = shlex.split(line.partition(" > ")[0].replace("JOB", job_id), comments=True)
        assert program == "gradfleet"
        result = CliRunner().invoke(command_line, arguments)
        assert result.exit_code == 0, f"{line}: {result.stderr}"
        assert result.stdout_bytes


def test_page_lists_every_command_for_jobs() -> None:
    listed = set(re.findall(r"gradfleet ([a-z]+)", PAGE)) | set(re.findall(r"`([a-z]+)[^`]*`", PAGE))
    commands = {command.callback.__name__ for command in jobs_app.registered_commands if command.callback}
    assert len(commands) == 12
    assert commands <= listed
