"""Installs the wheel without extras in a new environment: client, command line and engine work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from service.jobs.states import State
from tests.service.conftest import api, app, database, digits, mlflow_url, notifications, settings, url
from tests.service.fixtures.support import hinge_job, train

if TYPE_CHECKING:
    from service.store import Database

__all__ = ["api", "app", "database", "digits", "mlflow_url", "notifications", "settings", "url"]  # the fixtures

pytestmark = pytest.mark.timeout(600)  # seconds: the first test that runs downloads what the wheel requires

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
UV = Path(sys.executable).with_name("uv")
EXTRA = ["alembic", "fastapi", "matplotlib", "mlflow", "pydantic_settings", "ray", "sklearn", "sqlalchemy"]

USES_THE_CLIENT = """
import json, sys
from gradfleet import ApiError, Client, __version__

url, spec = sys.argv[1], json.loads(sys.argv[2])
with Client(url) as client:
    job = client.submit(spec)
    try:
        client.submit(spec | {"training": {"epochs": 0}})
    except ApiError as error:
        print(error)
    print(__version__, client.job(job.id).state, job.cancel().state, len(job.metrics()), client.datasets()[0]["name"])
"""

# Code before and after the engine example of the README.
SETUP = """
import numpy as np
random = np.random.default_rng(0)
features, labels = random.standard_normal((32, 64)), np.arange(32) % 10
"""
TRAIN = """
print(loss.mean())
for _ in range(50):
    plan.parameters[:] -= 0.001 * gradient
    plan.forward()
    plan.backward({"loss": 1.0})
print(plan.value("loss").mean())
"""


@pytest.fixture
def database_url() -> str | None:
    """Use the default of the settings."""
    return None


class Environment:
    """A virtual environment. Commands run in an empty directory, so that they cannot import from the checkout."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs, self._directory = programs, directory

    def __call__(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._directory,
            env={"GRADFLEET_DATA_DIR": "unused", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def output(self, program: str, *arguments: str) -> str:
        """Run a command that must succeed, and return its output."""
        done = self(program, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and its dependencies, in the versions of the lock file."""
    directory = tmp_path_factory.mktemp("thin")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    python = directory / "venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, directory / "venv"], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", python, "--constraint", ROOT / "requirements.lock", wheel]
    subprocess.run(install, check=True)
    (directory / "empty").mkdir()
    return Environment(python.parent, directory / "empty")


def test_packages_of_the_service_are_not_installed(thin: Environment) -> None:
    code = f"from importlib.util import find_spec; print([name for name in {EXTRA} if find_spec(name)])"
    assert thin.output("python", "-c", code) == "[]\n"


@pytest.mark.usefixtures("digits")
def test_the_client(thin: Environment, url: str) -> None:
    printed = thin.output("python", "-c", USES_THE_CLIENT, url, json.dumps(hinge_job()))
    assert printed == (
        f"training.epochs: must be at least 1, not 0\n{version('gradfleet')} queued cancelled 0 digits\n"
    )


@pytest.mark.usefixtures("digits")
def test_commands_of_the_client(thin: Environment, url: str, database: Database, tmp_path: Path) -> None:
    spec = tmp_path / "job.yaml"
    spec.write_text(yaml.safe_dump(hinge_job(**{"model.inputs": 8})))
    job_id = thin.output("gradfleet", "submit", str(spec), "--url", url).strip()
    train(database, job_id, State.SUCCEEDED)
    assert thin.output("gradfleet", "watch", job_id, "--url", url).startswith("digits-hinge  succeeded")
    assert job_id in thin.output("gradfleet", "jobs", "--url", url)
    assert thin.output("gradfleet", "metrics", job_id, "--url", url).startswith("step,name,value\n")
    assert "digits" in thin.output("python", "-m", "gradfleet", "datasets", "list", "--url", url)
    assert thin.output("gradfleet", "gradcheck", str(spec)).splitlines()[-1].startswith("every gradient is right")
    assert thin.output("gradfleet", "--version") == f"gradfleet {version('gradfleet')}\n"


@pytest.mark.parametrize(
    "command", ["up", "serve", "migrate", "demo", "tokens list", "tokens add me", "tokens revoke tok_1"]
)
def test_commands_of_the_service_print_what_to_install(thin: Environment, command: str) -> None:
    done = thin("gradfleet", *command.split())
    assert (done.returncode, done.stdout) == (1, "")
    name = " ".join(command.split()[: 1 + command.startswith("tokens")])
    assert done.stderr == f"gradfleet: `gradfleet {name}` needs the service: pip install 'gradfleet[service]'\n"


def test_the_engine_trains(thin: Environment) -> None:
    (example,) = re.findall(r"```python\n(from gradfleet import .*?)```", README, re.DOTALL)[1:]
    first, last = map(float, thin.output("python", "-c", SETUP + example + TRAIN).split())
    assert last < 0.1 * first
