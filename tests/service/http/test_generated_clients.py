"""Clients that other tools generate from the OpenAPI document: without warnings, and they work with a running service.

The generator of Python clients needs an older Typer than the service has, so it is installed in an environment of its
own. The generated client is used in it, too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.jobs.states import State
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.support import hinge_job, train

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from service.store import Database

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("digits")]  # seconds: it downloads the generator

GENERATOR = "openapi-python-client==0.29.1"
UV = Path(sys.executable).with_name("uv")
# One response is a picture, and one a zip archive.
OVERRIDES = "{image/png: application/octet-stream, application/zip: application/octet-stream}"
CONFIG = f"content_type_overrides: {OVERRIDES}\npost_hooks: []\n"

POST = """
import json, sys
from generated import Client
from generated.api.jobs import submit_job, validate_job
from generated.api.sweeps import submit_sweep
from generated.models import JobPreview, JobRequest, JobView, Problem, SweepRequest, SweepView

url, job, sweep = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
with Client(base_url=url) as client:
    preview = validate_job.sync(client=client, body=JobRequest.from_dict(job))
    assert isinstance(preview, JobPreview), preview
    posted = submit_job.sync(client=client, body=JobRequest.from_dict(job), idempotency_key="once")
    again = submit_job.sync(client=client, body=JobRequest.from_dict(job), idempotency_key="once")
    assert isinstance(posted, JobView) and posted.id == again.id
    bad = JobRequest.from_dict(job | {"training": {"epochs": 0}})
    problem = submit_job.sync(client=client, body=bad)
    assert isinstance(problem, Problem), problem
    made = submit_sweep.sync(client=client, body=SweepRequest.from_dict(sweep))
    assert isinstance(made, SweepView), made
    print(json.dumps([posted.id, made.id, problem.errors[0].field, problem.status, preview.parameters]))
"""

WATCH = """
import json, sys
from generated import Client
from generated.api.jobs import get_events, get_metrics, get_one_job, remove_job
from generated.api.sweeps import compare_members
from generated.models import ComparisonView, EventList, JobView, MetricsView, Problem

url, job_id, sweep_id = sys.argv[1:]
with Client(base_url=url) as client:
    job = get_one_job.sync(job_id, client=client)
    assert isinstance(job, JobView), job
    events, cursor = [], 0
    more = True
    while more:
        page = get_events.sync(job_id, client=client, limit=2, starting_after=cursor)
        assert isinstance(page, EventList), page
        events += [event.to_state.value for event in page.data if event.to_state]
        cursor, more = page.data[-1].id, page.has_more
    metrics = get_metrics.sync(job_id, client=client, name=["train/loss"])
    assert isinstance(metrics, MetricsView), metrics
    comparison = compare_members.sync(sweep_id, client=client)
    assert isinstance(comparison, ComparisonView), comparison
    unknown = get_one_job.sync("job_x", client=client)
    assert isinstance(unknown, Problem) and unknown.status == 404, unknown
    assert remove_job.sync(job_id, client=client) is None
    print(json.dumps([job.state.value, events, metrics.data["train/loss"].values, len(comparison.groups)]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def document(app: FastAPI, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(app.openapi()))
    return path


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    """The Python of an environment with the generator."""
    run(UV, "venv", "--quiet", "--python", sys.executable, "generator", cwd=tmp_path)
    python = tmp_path / "generator" / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, GENERATOR, cwd=tmp_path)
    return python


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def test_a_generated_python_client(
    document: Path, generator: Path, api: httpx.Client, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    options = ["--path", document.name, "--output-path", "generated", "--meta", "none", "--config", "config.yaml"]
    run(generator.with_name("openapi-python-client"), "generate", *options, "--fail-on-warning", cwd=tmp_path)

    def use(code: str, *arguments: str) -> Any:
        url = str(api.base_url).rstrip("/")
        return json.loads(run(generator, "-W", "error", "-c", code, url, *arguments, cwd=tmp_path))

    job_id, sweep_id, *rest = use(POST, json.dumps(hinge_job()), json.dumps(LOSSES_SWEEP))
    assert rest == ["training.epochs", 422, 8 * 128 + 128 + 128 * 10 + 10]
    train(database, job_id, State.SUCCEEDED, "completed")
    state, events, values, groups = use(WATCH, job_id, sweep_id)
    assert (state, events) == ("succeeded", ["queued", "starting", "running", "succeeded"])
    assert (values, groups) == ([0.25], 4)
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404


def test_generated_typescript(document: Path, tmp_path: Path) -> None:
    program = shutil.which("openapi-typescript")
    if program is None:
        pytest.skip("openapi-typescript is not installed (npm install --global openapi-typescript)")
    run(program, document, "--output", "api.d.ts", cwd=tmp_path)
    text = (tmp_path / "api.d.ts").read_text()
    assert "Problem: {" in text
    assert "JobRequest: {" in text
