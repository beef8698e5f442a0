"""What the API answers is what its own description says, whatever it is asked: Schemathesis asks, on a real server.

A run that fails prints its seed: GRADFLEET_FUZZ_SEED repeats it, GRADFLEET_FUZZ_EXAMPLES makes it longer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from service.access.tokens import Role, add_token
from service.jobs.states import State
from service.stack.app import create_app
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.support import hinge_job, served, train, write_parquet

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings
    from service.store import Database

LONGER = os.environ.get("GRADFLEET_FUZZ_EXAMPLES")
EXAMPLES = LONGER or "10"  # of each operation
# One seed unless it is asked for another: what is new is looked for by `make fuzz`, not by a change that has to land.
SEED = os.environ.get("GRADFLEET_FUZZ_SEED", "0")

CONFIG = """
# A stream tells at once how its job stands; what comes after that is for other tests.
max-stream-events = 1

[parameters]
"path.job_id" = { dictionary = "jobs", probability = 0.7 }
"path.sweep_id" = { dictionary = "sweeps", probability = 0.7 }
"path.name" = { dictionary = "datasets", probability = 0.7 }
"body.data.dataset" = { dictionary = "datasets", probability = 0.9 }
"body.path" = { dictionary = "files", probability = 0.7 }
"body.label" = { dictionary = "labels", probability = 0.7 }

# What no schema can say makes these reject what fits theirs: layers that do not fit each other or the dataset, more
# CPUs than shards, a column that the file does not have.
[[operations]]
include-operation-id = [
  "submit_job", "validate_job", "change_job", "register_dataset", "upload_dataset", "submit_sweep",
]
checks.positive_data_acceptance.enabled = false

# FastAPI describes a header that may be left out as one that may be null, which Schemathesis sends as the word "null".
[[operations]]
include-operation-id = "get_events"
checks.positive_data_acceptance.enabled = false

# A parameter that may be repeated takes text that is no list as a list of one.
[[operations]]
include-operation-id = ["get_metrics", "upload_dataset"]
checks.negative_data_rejection.enabled = false

[dictionaries]
datasets = { values = ["digits"] }
files = { values = ["digits.parquet"] }
labels = { values = ["label"] }
"""

# The body of a job has so many fields that going through the limits of each one takes a minute.
WITHOUT_LIMITS_OF_JOBS = """
[[operations]]
include-operation-id = ["submit_job", "validate_job"]
phases.coverage.enabled = false
"""

# Not one request got through to an operation, or to a row: then the run has shown nothing of it.
WHAT_IS_MISSED = """
[warnings]
display = ["missing_auth", "missing_test_data", "rate_limited"]
fail-on = true
"""

# Instead of JSON, where there is something else: the events as a stream, the metrics as a table.
OTHER_FORMS = "Accept: text/event-stream, text/csv"


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def tokens(database: Database) -> dict[Role, str]:
    with database.writing() as session:
        return {role: add_token(session, f"a {role} token", role)[1] for role in Role}


def with_tokens(settings: Settings) -> Settings:
    return settings.model_copy(update={"require_token": True, "requests_per_second": 1e6})


def make_jobs(settings: Settings, database: Database) -> dict[str, list[str]]:
    """Ids of jobs that are queued, run, have ended each way, and are paused, and of a sweep."""
    write_parquet(settings.allowed_roots[0] / "digits.parquet")
    open_settings = settings.model_copy(update={"require_token": False})
    with served(create_app(open_settings, database=database)) as url, httpx.Client(base_url=url) as api:
        dataset = {"name": "digits", "path": "digits.parquet", "label": "label"}
        api.post("/v1/datasets", json=dataset).raise_for_status()
        queued, running, failed, succeeded, cancelled, paused = jobs = [
            str(api.post("/v1/jobs", json=hinge_job()).raise_for_status().json()["id"]) for _ in range(6)
        ]
        train(database, running, None)
        train(database, failed, State.FAILED, "diverged")
        train(database, succeeded, State.SUCCEEDED, "completed")
        api.post(f"/v1/jobs/{cancelled}/cancel").raise_for_status()
        api.post(f"/v1/jobs/{paused}/pause").raise_for_status()
        assert api.get(f"/v1/jobs/{queued}").json()["state"] == State.QUEUED
        sweep = api.post("/v1/sweeps", json=LOSSES_SWEEP).raise_for_status().json()["id"]
    return {"jobs": jobs, "sweeps": [sweep]}


def ask(settings: Settings, database: Database, directory: Path, *options: str, config: str = "") -> None:
    """Run Schemathesis with all its checks against the service; fails, with what it found, unless that is nothing."""
    made = [f"{kind} = {{ values = {json.dumps(ids)} }}\n" for kind, ids in make_jobs(settings, database).items()]
    file = directory / "schemathesis.toml"
    file.write_text(CONFIG + "".join(made) + config + ("" if LONGER else WITHOUT_LIMITS_OF_JOBS))
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
    ask(settings, database, tmp_path, config=WHAT_IS_MISSED)


def test_with_a_token_that_allows_all(
    settings: Settings, database: Database, tokens: dict[Role, str], tmp_path: Path
) -> None:
    token = f"Authorization: Bearer {tokens[Role.ADMIN]}"
    ask(with_tokens(settings), database, tmp_path, "-H", token, "-H", OTHER_FORMS, config=WHAT_IS_MISSED)


@pytest.mark.parametrize("role", [Role.READ, Role.SUBMIT])
def test_with_a_token_that_allows_less(
    settings: Settings, database: Database, tokens: dict[Role, str], tmp_path: Path, role: Role
) -> None:
    token = f"Authorization: Bearer {tokens[role]}"
    ask(with_tokens(settings), database, tmp_path, "-H", token, "--phases", "examples,fuzzing")


def test_without_the_token_that_is_asked_for(settings: Settings, database: Database, tmp_path: Path) -> None:
    ask(with_tokens(settings), database, tmp_path, "--phases", "examples,fuzzing")
