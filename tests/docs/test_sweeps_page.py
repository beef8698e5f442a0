"""Runs the examples of docs/sweeps.md in order against a real API. A thread replaces the scheduler."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app as command_line
from service.cli.spec_file import read_spec
from service.cli.sweeps import sweeps_app
from service.cli.yaml_values import parse
from service.client import Client
from tests.docs.test_client_page import jobs_that_train
from tests.service.conftest import api, app, database, digits, mlflow_url, notifications, settings

if TYPE_CHECKING:
    import httpx

    from service.store import Database

__all__ = ["api", "app", "database", "digits", "mlflow_url", "notifications", "settings"]  # the fixtures

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
FILE = ROOT / "docs" / "examples" / "hinge-vs-softmax.yaml"
BLOCKS = re.findall(r"```(yaml|python|sh)\n(.*?)```", PAGE, re.DOTALL)
SWEEP, *SEARCHES = [block for language, block in BLOCKS if language == "yaml"]


@pytest.fixture
def database_url() -> str | None:
    """Use the default of the settings."""
    return None


def test_page_shows_the_file() -> None:
    assert FILE.read_text(encoding="utf-8") == SWEEP


@pytest.mark.usefixtures("digits")
def test_file_creates_36_jobs(api: httpx.Client) -> None:
    answer = api.post("/v1/sweeps", json=read_spec(FILE))
    assert answer.json()["jobs"] == {"queued": 36}, answer.text


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("search", SEARCHES)
def test_searches_on_the_page_are_valid(api: httpx.Client, search: str) -> None:
    answer = api.post("/v1/sweeps", json=read_spec(FILE) | parse(search))
    assert answer.status_code == 201, answer.text


@pytest.mark.usefixtures("digits")
def test_examples_run(
    api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(api.base_url).rstrip("/")
    monkeypatch.setenv("GRADFLEET_URL", url)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    with Client(url) as client, jobs_that_train(client, database):
        for language, block in BLOCKS:
            if language == "python":
                exec(compile(block.replace("http://127.0.0.1:8000", url), "docs/sweeps.md", "exec"), names)
            elif language == "sh":
                run_commands(client, block)
        names["client"].close()
    printed = capsys.readouterr().out
    assert "hinge {'loss.type': 'hinge', 'optimizer.lr': 0.02} 0.625 0.0 3" in printed
    assert "hinge-vs-softmax-11 {'loss.type': 'softmax', 'optimizer.lr': 0.1, 'training.seed': 2} 0.625" in printed


def run_commands(client: Client, block: str) -> None:
    for line in block.splitlines():
        newest = next(client.sweeps(limit=1), None)
        words = line.partition(" > ")[0].replace("SWEEP", newest.id if newest else "")
        program, *arguments = shlex.split(words, comments=True)
        assert program == "gradfleet"
        result = CliRunner().invoke(command_line, arguments)
        assert result.exit_code == 0, f"{line}: {result.stderr}"
        if "--watch" in arguments:
            assert "36/36 ended  36 succeeded" in result.stdout
            assert "mean ± standard deviation of n jobs" in result.stdout


def test_page_lists_every_command_for_sweeps() -> None:
    listed = set(re.findall(r"gradfleet ([a-z]+)", PAGE))
    commands = {command.callback.__name__ for command in sweeps_app.registered_commands if command.callback}
    assert commands == {"sweep", "sweeps", "compare"}
    assert commands <= listed
