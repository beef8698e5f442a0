"""Schemathesis checks that the responses of a real server match the OpenAPI document.

A failed run prints its seed. GRADFLEET_FUZZ_SEED repeats it, and GRADFLEET_FUZZ_EXAMPLES sets the number of examples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from service.access.tokens import Role
from service.jobs.states import State
from service.stack.app import create_app
from service.store.models import Job, Milestone
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.support import FEATURES, hinge_job, served, train, write_parquet
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database

LONGER = os.environ.get("GRADFLEET_FUZZ_EXAMPLES")
EXAMPLES = LONGER or "10"  # for each operation
# The default seed is fixed so that tests are reproducible; `make fuzz` uses new seeds.
SEED = os.environ.get("GRADFLEET_FUZZ_SEED", "0")

CONFIG = """
# The first message of a stream is sent immediately. Other tests check the following ones.
max-stream-events = 1

[parameters]
"path.job_id" = { dictionary = "jobs", probability = 0.7 }
"path.sweep_id" = { dictionary = "sweeps", probability = 0.7 }
"path.name" = { dictionary = "images", probability = 0.7 }
"body.data.dataset" = { dictionary = "datasets", probability = 0.9 }
"body.path" = { dictionary = "files", probability = 0.7 }
"body.label" = { dictionary = "labels", probability = 0.7 }

# These reject some values that match the schema, which cannot express all rules: layers that do not fit each other or
# the dataset, more CPUs than shards, a column that the file does not have, a certificate of data that are not here, a
# metric that the members do not have, a seed of a sample without the sample.
[[operations]]
include-operation-id = [
  "submit_job", "validate_job", "change_job", "register_dataset", "upload_dataset", "submit_sweep",
  "verify_certificate", "verify_job", "compare_members",
]
checks.positive_data_acceptance.enabled = false

# A whole certificate takes too many random values to be one step of a scenario.
[[operations]]
include-operation-id = "verify_certificate"
phases.stateful.enabled = false

# FastAPI describes an optional header as nullable, and Schemathesis sends null as the text "null".
[[operations]]
include-operation-id = "get_events"
checks.positive_data_acceptance.enabled = false

# A repeatable parameter accepts text as a list with one item.
[[operations]]
include-operation-id = ["get_metrics", "upload_dataset"]
checks.negative_data_rejection.enabled = false

[dictionaries]
datasets = { values = ["digits"] }
images = { values = ["images"] }
files = { values = ["digits.parquet"] }
labels = { values = ["label"] }
"""

# The body of a job has so many fields that testing the limits of all of them takes a minute.
SKIP_LIMITS_OF_JOBS = """
[[operations]]
include-operation-id = ["submit_job", "validate_job"]
phases.coverage.enabled = false
"""

# Fails if all requests of an operation were rejected without a token or found no row, because nothing was tested.
FAIL_ON_WARNINGS = """
[warnings]
display = ["missing_auth", "missing_test_data", "rate_limited"]
fail-on = true
"""

# Requests the other media types: a stream of events, and metrics as CSV.
ACCEPT_OTHERS = "Accept: text/event-stream, text/csv"


pytestmark = [pytest.mark.usefixtures("reading_here"), pytest.mark.timeout(600)]  # one takes 20 s on an idle machine


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def with_tokens(settings: Settings) -> Settings:
    return settings.model_copy(update={"require_token": True, "requests_per_second": 1e6})


def make_jobs(settings: Settings, database: Database) -> dict[str, list[str]]:
    """Ids of jobs in six states, and of a sweep."""
    write_parquet(settings.allowed_roots[0] / "digits.parquet")
    open_settings = settings.model_copy(update={"require_token": False})
    with served(create_app(open_settings, database=database)) as url, httpx.Client(base_url=url) as api:
        dataset = {"name": "digits", "path": "digits.parquet", "label": "label"}
        # Random requests register newer versions of "digits". Images have a contact sheet.
        for made in (dataset, dataset | {"name": "images", "shape": [1, FEATURES, 1]}):
            api.post("/v1/datasets", json=made).raise_for_status()
        queued, running, failed, succeeded, cancelled, paused = jobs = [
            str(api.post("/v1/jobs", json=hinge_job()).raise_for_status().json()["id"]) for _ in range(6)
        ]
        train(database, running, None)
        train(database, failed, State.FAILED, "diverged")
        train(database, succeeded, State.SUCCEEDED, "completed")
        certify(database, succeeded)
        api.post(f"/v1/jobs/{cancelled}/cancel").raise_for_status()
        api.post(f"/v1/jobs/{paused}/pause").raise_for_status()
        assert api.get(f"/v1/jobs/{queued}").json()["state"] == State.QUEUED
        # A dataset that a job uses is not deleted.
        api.post("/v1/jobs", json=hinge_job(**{"data.dataset": "images"})).raise_for_status()
        sweep = api.post("/v1/sweeps", json=LOSSES_SWEEP).raise_for_status().json()["id"]
    return {"jobs": jobs, "sweeps": [sweep]}


def certify(database: Database, job_id: str) -> None:
    """Add what a job needs besides `train` to have a certificate."""
    with database.writing() as session:
        job = session.get_one(Job, job_id)
        for step in {*milestone_steps(job.total_steps), job.step}:
            session.add(Milestone(job_id=job_id, step=step, params_sha256=f"{step:064x}"))


def run_schemathesis(settings: Settings, database: Database, directory: Path, *options: str, config: str = "") -> None:
    """Run Schemathesis with all checks against the service. Fails with its output if it finds an error."""
    made = [f"{kind} = {{ values = {json.dumps(ids)} }}\n" for kind, ids in make_jobs(settings, database).items()]
    file = directory / "schemathesis.toml"
    file.write_text(CONFIG + "".join(made) + config + ("" if LONGER else SKIP_LIMITS_OF_JOBS))
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run", "--no-color"]
    with served(create_app(settings, database=database)) as url:
        found = subprocess.run(
            [*program, f"{url}/openapi.json", "--seed", SEED, "--max-examples", EXAMPLES, *options],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    assert found.returncode == 0, f"GRADFLEET_FUZZ_SEED={SEED}\n{found.stdout}{found.stderr}"


def test_without_tokens(settings: Settings, database: Database, tmp_path: Path) -> None:
    run_schemathesis(settings, database, tmp_path, config=FAIL_ON_WARNINGS)


def test_with_an_admin_token(settings: Settings, database: Database, tokens: dict[Role, str], tmp_path: Path) -> None:
    token = f"Authorization: Bearer {tokens[Role.ADMIN]}"
    run_schemathesis(
        with_tokens(settings), database, tmp_path, "-H", token, "-H", ACCEPT_OTHERS, config=FAIL_ON_WARNINGS
    )


@pytest.mark.parametrize("role", [Role.READ, Role.SUBMIT])
def test_with_a_token_of_a_lower_role(
    settings: Settings, database: Database, tokens: dict[Role, str], tmp_path: Path, role: Role
) -> None:
    token = f"Authorization: Bearer {tokens[role]}"
    run_schemathesis(with_tokens(settings), database, tmp_path, "-H", token, "--phases", "examples,fuzzing")


def test_without_a_required_token(settings: Settings, database: Database, tmp_path: Path) -> None:
    run_schemathesis(with_tokens(settings), database, tmp_path, "--phases", "examples,fuzzing")
