"""Each part is killed before, during and after each commit that matters; nothing is lost then, and nothing is twice."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from service.client import ApiError, UnreachableError
from service.client.http import http_client
from tests.chaos.deployment import PATIENCE, Deployment
from tests.chaos.disturbed import job
from tests.chaos.planted import MOMENTS
from tests.e2e.stack import series_of, wait_until, write_digits
from tests.e2e.story import assert_unbroken
from tests.fixtures.postgres import find_programs

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from service.client import Client, Job

pytestmark = pytest.mark.timeout(7200)

VICTIMS = ("api", "scheduler", "supervisor", "worker", "ray head", "postgresql", "mlflow")
WHENS = ("before", "during", "after")
CELLS_OF_THE_SHORT_FORM = 6

# The statement after which a trigger makes COMMIT take its time, once.
SLOW_COMMIT = {
    "submission": "INSERT ON jobs",
    "launch": "INSERT ON attempts",
    "points": "INSERT ON metrics",
    "checkpoint": "UPDATE OF params_sha256 ON jobs",
    "end": "UPDATE OF outcome ON attempts",
    "mark": "UPDATE OF metric_cursor ON mlflow_runs",
}
SPEC = job(epochs=60)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL's programs are not here: install Debian's package postgresql")
    with Deployment(tmp_path_factory.mktemp("matrix"), programs) as deployment:
        file = write_digits(deployment.data_dir / "uploads" / "digits.parquet")
        deployment.ask(lambda client: client.register_dataset("digits", file, "label"))
        yield deployment


@pytest.fixture(scope="module")
def undisturbed(deployment: Deployment) -> tuple[str, Any]:
    job_id = deployment.ask(lambda client: client.submit(SPEC))["id"]
    return result(deployment, job_id)


def result(deployment: Deployment, job_id: str) -> tuple[str, Any]:
    """Digest and points of a job that has succeeded."""

    def ended() -> Any:
        deployment.look_after()
        found = deployment.ask(lambda client: client.job(job_id))
        return found if found["finished_at"] else None

    done = wait_until(ended, PATIENCE, f"{job_id} to end")
    assert done["state"] == "succeeded", done["reason"]
    series = deployment.ask(lambda client: series_of(client.job(job_id)))
    return done["params_sha256"], {name: points for name, points in series.items() if not name.startswith("time/")}


class Killer:
    """Kills a part of a deployment and has it started again."""

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        self._deployment, self._chance = deployment, chance

    def kill(self, victim: str) -> None:
        deployment = self._deployment
        match victim:
            case "api":
                deployment.other().kill()
            case "scheduler":
                leader = deployment.leader()
                assert leader is not None
                leader.kill()
            case "supervisor" | "worker":
                title = f"ray::{victim.title()}"
                found = wait_until(lambda: deployment.ray.pids(title), PATIENCE, f"a {victim}")
                os.kill(self._chance.choice(found), signal.SIGKILL)
            case "ray head":
                deployment.ray.kill()
            case "postgresql":
                assert deployment.postgres.process.poll() is None
                deployment.postgres.kill()
            case "mlflow":
                process = deployment.mlflow._process
                assert process is not None
                assert process.poll() is None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def revive(self, victim: str) -> None:
        deployment = self._deployment
        match victim:
            case "ray head":
                deployment.ray.start()
            case "postgresql":
                deployment.postgres.start()
            case "mlflow":
                deployment.mlflow.restart_if_ended()
        deployment.look_after()


@contextmanager
def gate(deployment: Deployment, moment: str, when: str) -> Iterator[None]:
    """A gate at a commit, which is open again afterwards."""
    for name in ("reached", "go", "taken"):
        (deployment.gates / name).unlink(missing_ok=True)
    plan = deployment.gates / f"{moment}-{when}.plan"
    plan.touch()
    yield
    plan.unlink(missing_ok=True)
    (deployment.gates / "go").touch()


@contextmanager
def slow_commit(deployment: Deployment, moment: str) -> Iterator[None]:
    """A deferred trigger that sleeps in the first COMMIT of its kind."""
    deployment.query(
        f"""
        DROP SEQUENCE IF EXISTS commits; CREATE SEQUENCE commits;
        CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF nextval('commits') = 1 THEN PERFORM pg_sleep(2); END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER dawdle AFTER {SLOW_COMMIT[moment]}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();
        """
    )
    yield
    deployment.query(f"DROP TRIGGER dawdle ON {SLOW_COMMIT[moment].split()[-1]}")


def commit_is_under_way(deployment: Deployment) -> bool:
    return bool(deployment.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query = 'COMMIT'"))


def run_cell(deployment: Deployment, killer: Killer, victim: str, moment: str, when: str) -> str:
    """Submit a job and kill the victim at that moment of it; gives the job's id."""
    key = secrets.token_hex(8)
    # A user's: the first try goes to the service that does not lead.
    first = deployment.other().client
    planned = slow_commit(deployment, moment) if when == "during" else gate(deployment, moment, when)

    def submit() -> Job:
        def call(client: Client) -> Job:
            return client.submit(SPEC, idempotency_key=key)

        try:
            return call(first)
        except Exception:  # noqa: BLE001  whatever it was, the next tries go to both
            return cast("Job", deployment.ask(call))

    with ThreadPoolExecutor(1) as pool:
        with planned:
            submitted = pool.submit(submit)
            if when == "during":
                wait_until(lambda: commit_is_under_way(deployment), PATIENCE, f"the commit of {moment}")
            else:
                wait_until((deployment.gates / "reached").exists, PATIENCE, f"the gate {when} {moment}")
            killer.kill(victim)
            killer.revive(victim)
        job_id = str(submitted.result(PATIENCE)["id"])
    assert deployment.query(f"SELECT id FROM jobs WHERE idempotency_key = '{key}'") == [(job_id,)]
    return job_id


def assert_nothing_lost_nothing_twice(deployment: Deployment, job_id: str, undisturbed: tuple[str, Any]) -> None:
    digest, series = result(deployment, job_id)
    assert digest == undisturbed[0]
    assert series == undisturbed[1]
    deployment.ask(lambda client: assert_unbroken(client, job_id))
    assert_told(deployment, job_id)


def assert_told(deployment: Deployment, job_id: str) -> None:
    """MLflow has one run of the job, ended, with the points of the API, each once."""

    ended = f"mlflow_finished AND id = '{job_id}'"

    def exported() -> Any:
        return deployment.query(f"SELECT run_id, experiment_id FROM mlflow_runs JOIN jobs ON id = job_id WHERE {ended}")

    ((run_id, experiment_id),) = wait_until(exported, PATIENCE, f"MLflow to be told of {job_id}")
    with http_client(deployment.mlflow.url, timeout=30) as mlflow:
        query = {"experiment_ids": [experiment_id], "filter": f"tags.`gradfleet.job_id` = '{job_id}'"}
        runs = mlflow.post("/api/2.0/mlflow/runs/search", json=query).json()["runs"]
        assert [(run["info"]["run_id"], run["info"]["status"]) for run in runs] == [(run_id, "FINISHED")]
        series = deployment.ask(lambda client: series_of(client.job(job_id)))
        for name, points in series.items():
            history = {"run_id": run_id, "metric_key": name, "max_results": 25000}
            told = mlflow.get("/api/2.0/mlflow/metrics/get-history", params=history).json()["metrics"]
            in_order = sorted((int(point.get("step", 0)), point["value"]) for point in told)
            assert in_order == list(zip(points["steps"], points["values"], strict=True)), name


def cells(chance: random.Random, rounds: int) -> list[tuple[str, str, str]]:
    """All of them, or a choice in which each victim comes once at most."""
    every = list(itertools.product(VICTIMS, MOMENTS, WHENS))
    if rounds > 1:
        return chance.sample(every, len(every))
    victims = chance.sample(VICTIMS, CELLS_OF_THE_SHORT_FORM)
    return [(victim, chance.choice(list(MOMENTS)), chance.choice(WHENS)) for victim in victims]


def test_the_kill_matrix(
    deployment: Deployment, undisturbed: tuple[str, Any], chance: random.Random, rounds: int
) -> None:
    killer = Killer(deployment, chance)
    for victim, moment, when in cells(chance, rounds):
        begun = time.monotonic()
        wait_until(deployment.leader, PATIENCE, "a service to lead")
        for service in deployment.services:
            wait_until(lambda service=service: answers(service.client), PATIENCE, "both services to answer")
        job_id = run_cell(deployment, killer, victim, moment, when)
        assert_nothing_lost_nothing_twice(deployment, job_id, undisturbed)
        print(f"{victim:<11} killed {when:<6} {moment:<11} {time.monotonic() - begun:5.1f} s")  # noqa: T201


def answers(client: Client) -> bool:
    try:
        list(client.jobs(limit=1))
    except (UnreachableError, ApiError):
        return False
    return True


def test_another_service_takes_over(deployment: Deployment, undisturbed: tuple[str, Any]) -> None:
    leader = wait_until(deployment.leader, PATIENCE, "a service to lead")
    _, token = deployment.lease()
    job_id = deployment.ask(lambda client: client.submit(SPEC))["id"]
    leader.kill()
    killed = time.monotonic()
    wait_until(lambda: deployment.lease()[1] > token, PATIENCE, "another service to take over")
    print(f"took over after {time.monotonic() - killed:.1f} s")  # noqa: T201
    deployment.look_after()
    assert_nothing_lost_nothing_twice(deployment, job_id, undisturbed)
