"""Each process is killed before, during and after each important commit; nothing is lost and nothing is repeated."""

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
from service.tracking.series import mlflow_name
from tests.chaos.deployment import PATIENCE, Deployment
from tests.chaos.disturbed import job
from tests.chaos.gates import MOMENTS
from tests.e2e.job_history import assert_unbroken
from tests.e2e.stack import series_of, wait_until, write_digits
from tests.fixtures.postgres import find_programs

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from service.client import Client, Job

pytestmark = pytest.mark.timeout(7200)

VICTIMS = ("api", "scheduler", "supervisor", "worker", "ray head", "postgresql", "mlflow")
WHENS = ("before", "during", "after")
CELLS_OF_A_SHORT_RUN = 6
TAKEOVER = 60.0  # seconds; 10 to 13 when a machine has nothing else to do

# The statement after which a trigger delays COMMIT, once.
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
        pytest.skip("PostgreSQL's programs are not installed: install Debian's package postgresql")
    with Deployment(tmp_path_factory.mktemp("matrix"), programs) as deployment:
        file = write_digits(deployment.data_dir / "uploads" / "digits.parquet")
        deployment.request(lambda client: client.register_dataset("digits", file, "label"))
        yield deployment


@pytest.fixture(scope="module")
def undisturbed(deployment: Deployment) -> tuple[str, Any]:
    job_id = deployment.request(lambda client: client.submit(SPEC))["id"]
    return result(deployment, job_id)


def result(deployment: Deployment, job_id: str) -> tuple[str, Any]:
    """Digest and points of a job that has succeeded."""

    def ended() -> Any:
        deployment.restart_ended()
        found = deployment.request(lambda client: client.job(job_id))
        return found if found["finished_at"] else None

    done = wait_until(ended, PATIENCE, f"the end of {job_id}")
    assert done["state"] == "succeeded", done["reason"]
    series = deployment.request(lambda client: series_of(client.job(job_id)))
    return done["params_sha256"], {name: points for name, points in series.items() if not name.startswith("time/")}


class Killer:
    """Kills and restarts processes of a deployment."""

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
        deployment.restart_ended()


@contextmanager
def gate(deployment: Deployment, moment: str, when: str) -> Iterator[None]:
    """Close the gate at a commit, and open it at the end."""
    for name in ("reached", "go", "taken"):
        (deployment.gates / name).unlink(missing_ok=True)
    plan = deployment.gates / f"{moment}-{when}.plan"
    plan.touch()
    yield
    plan.unlink(missing_ok=True)
    (deployment.gates / "go").touch()


@contextmanager
def slow_commit(deployment: Deployment, moment: str) -> Iterator[None]:
    """Add a deferred trigger that sleeps in the first COMMIT of its kind."""
    deployment.query(
        f"""
        DROP SEQUENCE IF EXISTS commits; CREATE SEQUENCE commits;
        CREATE OR REPLACE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF nextval('commits') = 1 THEN PERFORM pg_sleep(2); END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slow_down AFTER {SLOW_COMMIT[moment]}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_down();
        """
    )
    yield
    deployment.query(f"DROP TRIGGER slow_down ON {SLOW_COMMIT[moment].split()[-1]}")


def commit_is_under_way(deployment: Deployment) -> bool:
    return bool(deployment.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query = 'COMMIT'"))


def run_cell(deployment: Deployment, killer: Killer, victim: str, moment: str, when: str) -> str:
    """Submit a job and kill the victim at the given commit; return the job's id."""
    key = secrets.token_hex(8)
    # The first try goes to the service that is not the leader, as that of a user may.
    first = deployment.other().client
    planned = slow_commit(deployment, moment) if when == "during" else gate(deployment, moment, when)

    def submit() -> Job:
        def call(client: Client) -> Job:
            return client.submit(SPEC, idempotency_key=key)

        try:
            return call(first)
        except Exception:  # noqa: BLE001  after any error, the next tries go to both services
            return cast("Job", deployment.request(call))

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


def assert_nothing_lost_or_repeated(deployment: Deployment, job_id: str, undisturbed: tuple[str, Any]) -> None:
    digest, series = result(deployment, job_id)
    assert digest == undisturbed[0]
    assert series == undisturbed[1]
    deployment.request(lambda client: assert_unbroken(client, job_id))
    assert_exported(deployment, job_id)


def assert_exported(deployment: Deployment, job_id: str) -> None:
    """Assert that MLflow has one run of the job, that it is finished, and that it has each point of the API once."""

    ended = f"mlflow_finished AND id = '{job_id}'"

    def exported() -> Any:
        return deployment.query(f"SELECT run_id, experiment_id FROM mlflow_runs JOIN jobs ON id = job_id WHERE {ended}")

    ((run_id, experiment_id),) = wait_until(exported, PATIENCE, f"the export of {job_id}")
    with http_client(deployment.mlflow.url, timeout=30) as mlflow:
        query = {"experiment_ids": [experiment_id], "filter": f"tags.`gradfleet.job_id` = '{job_id}'"}
        runs = mlflow.post("/api/2.0/mlflow/runs/search", json=query).json()["runs"]
        assert [(run["info"]["run_id"], run["info"]["status"]) for run in runs] == [(run_id, "FINISHED")]
        series = deployment.request(lambda client: series_of(client.job(job_id)))
        for name, points in series.items():
            history = {"run_id": run_id, "metric_key": mlflow_name(name), "max_results": 25000}
            logged = mlflow.get("/api/2.0/mlflow/metrics/get-history", params=history).json()["metrics"]
            in_order = sorted((int(point.get("step", 0)), point["value"]) for point in logged)
            assert in_order == list(zip(points["steps"], points["values"], strict=True)), name


def cells(chance: random.Random, rounds: int) -> list[tuple[str, str, str]]:
    """All cells, or a random choice in which each victim occurs at most once."""
    every = list(itertools.product(VICTIMS, MOMENTS, WHENS))
    if rounds > 1:
        return chance.sample(every, len(every))
    victims = chance.sample(VICTIMS, CELLS_OF_A_SHORT_RUN)
    return [(victim, chance.choice(list(MOMENTS)), chance.choice(WHENS)) for victim in victims]


def test_the_kill_matrix(
    deployment: Deployment, undisturbed: tuple[str, Any], chance: random.Random, rounds: int
) -> None:
    killer = Killer(deployment, chance)
    for victim, moment, when in cells(chance, rounds):
        begun = time.monotonic()
        wait_until(deployment.leader, PATIENCE, "a service becomes the leader")
        for service in deployment.services:
            wait_until(lambda service=service: answers(service.client), PATIENCE, "both services answer")
        job_id = run_cell(deployment, killer, victim, moment, when)
        assert_nothing_lost_or_repeated(deployment, job_id, undisturbed)
        print(f"{victim:<11} killed {when:<6} {moment:<11} {time.monotonic() - begun:5.1f} s")  # noqa: T201


def answers(client: Client) -> bool:
    try:
        list(client.jobs(limit=1))
    except (UnreachableError, ApiError):
        return False
    return True


def test_another_service_takes_over(deployment: Deployment, undisturbed: tuple[str, Any]) -> None:
    leader = wait_until(deployment.leader, PATIENCE, "a service becomes the leader")
    _, token = deployment.lease()
    job_id = deployment.request(lambda client: client.submit(SPEC))["id"]
    leader.kill()
    killed = time.monotonic()
    wait_until(lambda: deployment.lease()[1] > token, PATIENCE, "another service takes over")
    print(f"took over after {time.monotonic() - killed:.1f} s")  # noqa: T201
    deployment.restart_ended()
    assert_nothing_lost_or_repeated(deployment, job_id, undisturbed)


def test_another_service_takes_over_from_a_stopped_leader(
    deployment: Deployment, undisturbed: tuple[str, Any], chance: random.Random, rounds: int
) -> None:
    """In every try, wherever the leader stopped: in the middle of a transaction that holds the lease, too."""
    for _ in range(rounds):
        leader = wait_until(deployment.leader, PATIENCE, "a service becomes the leader")
        for service in deployment.services:
            wait_until(lambda service=service: answers(service.client), PATIENCE, "both services answer")
        _, token = deployment.lease()
        job_id = deployment.request(lambda client: client.submit(SPEC))["id"]
        step = chance.randint(1, 200)
        wait_until(lambda job_id=job_id, step=step: steps_of(deployment, job_id) >= step, PATIENCE, f"step {step}")
        leader.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            wait_until(lambda token=token: deployment.lease()[1] > token, PATIENCE, "another service takes over")
            seconds = time.monotonic() - stopped
            print(f"took over after {seconds:.1f} s")  # noqa: T201
            assert seconds < TAKEOVER
        finally:
            leader.process.send_signal(signal.SIGCONT)
        assert_nothing_lost_or_repeated(deployment, job_id, undisturbed)


def steps_of(deployment: Deployment, job_id: str) -> int:
    ((step,),) = deployment.query(f"SELECT step FROM jobs WHERE id = '{job_id}'")
    return int(step)
