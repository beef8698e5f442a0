"""The Compose cluster on a Docker engine: no bit of a result depends on scaling and on killed containers."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.cli.demo import experiment
from service.cli.demo.digits import write_digits
from tests.cluster.compose import RECOVERY_SECONDS, ROOT, Cluster, build, inspect, missing_requirement
from tests.e2e.stack import digits_job, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.client import Client, Job

LOSSES = ("hinge", "softmax")
SERVICES = ("postgres", "mlflow", "ray-head", "ray-worker", "api")
# The possible numbers of restarts of a job that trains while a container of this service is killed. A node detects the
# loss of its head after half a minute. Whether a job ends before that depends on the machine.
RESTARTS = {"ray-worker": {1}, "ray-head": {0, 1}, "api": {0}, "postgres": {0}, "mlflow": {0}}
END_SECONDS = 600
LAYERS = [
    {"type": "linear", "units": 256},
    {"type": "relu"},
    {"type": "dropout", "rate": 0.2},
    {"type": "linear", "units": 10},
]


def job(loss: str, workers: int) -> dict[str, Any]:
    return digits_job(
        name=loss,
        experiment="cluster",
        model={"layers": LAYERS},
        loss={"type": loss},
        training={"epochs": 1500, "batch_size": 128, "seed": 5, "shards": 4},
        resources={"workers": workers},
        checkpoints={"every_seconds": 1, "keep": 2},
        max_restarts=100,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := missing_requirement():
        pytest.skip(f"the cluster needs Docker: {missing}")
    build()
    cluster = Cluster(f"gradfleet-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("cluster"))
    try:
        begin = time.monotonic()
        cluster.up(workers=1)
        cluster.wait_until_healthy(SERVICES)
        report("docker compose up, until all is healthy", seconds=time.monotonic() - begin)
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.compose("logs", "--tail", "50"))
        raise
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def client(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("digits") / "digits.parquet"
    write_digits(path, validation=experiment.VALIDATION, seeds=experiment.SEEDS)
    with cluster.client() as client:
        client.upload_dataset(experiment.DATASET, path, "label", shape=(8, 8))
        yield client


@pytest.fixture(scope="module")
def undisturbed(client: Client) -> dict[str, str]:
    """Digests of jobs on one worker without faults, by loss."""
    begin = time.monotonic()
    jobs = {loss: client.submit(job(loss, 1)) for loss in LOSSES}
    digests = {loss: finish(run) for loss, run in jobs.items()}
    report("hinge and softmax, undisturbed, one worker each", seconds=time.monotonic() - begin, digests=digests)
    assert digests["hinge"] != digests["softmax"]
    return digests


def finish(run: Job) -> str:
    run.wait(timeout=END_SECONDS)
    assert run.state == "succeeded", run.reason
    return str(run["params_sha256"])


def wait_for_step(run: Job, step: int) -> None:
    wait_until(lambda: run.refresh().progress["step"] >= step, END_SECONDS, f"step {step} of {run.name}")


def report(what: str, **values: Any) -> None:
    """Print a line of the output of `make cluster-test`."""
    rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in values.items()}
    sys.stdout.write(f"{what}: {json.dumps(rounded)}\n")


def test_only_the_api_and_mlflow_are_published_and_only_on_loopback(cluster: Cluster) -> None:
    published = {}
    for service in SERVICES:
        for container in cluster.containers(service):
            ports = json.loads(inspect(container, "{{json .NetworkSettings.Ports}}"))
            published[service] = [entry["HostIp"] for entries in ports.values() for entry in entries or []]
    assert {service for service, hosts in published.items() if hosts} == {"api", "mlflow"}
    assert {host for hosts in published.values() for host in hosts} == {"127.0.0.1"}


def test_the_api_refuses_requests_without_a_token(client: Client) -> None:
    assert httpx.get(f"{client.base_url}/v1/jobs").status_code == 401
    # A moment after the API is healthy, its Ray node has joined the cluster.
    wait_until(lambda: httpx.get(f"{client.base_url}/readyz").is_success, RECOVERY_SECONDS, "the API is ready")


def test_scaling_during_a_job_changes_no_bit(cluster: Cluster, client: Client, undisturbed: dict[str, str]) -> None:
    runs = {loss: client.submit(job(loss, 1)) for loss in LOSSES}
    wait_for_step(runs["hinge"], 100)
    begin = time.monotonic()
    cluster.up(workers=3)
    cluster.wait_until_healthy(["ray-worker"])
    report("scaled from 1 to 3 workers", seconds=time.monotonic() - begin)
    runs["hinge"].resize(workers=2)
    digests = {loss: finish(run) for loss, run in runs.items()}
    resized = {event["kind"] for event in runs["hinge"].history()} & {"resources_changed"}
    report("hinge goes on with two workers", equal=digests == undisturbed)
    assert digests == undisturbed
    assert resized


def test_the_demo_runs_through_the_published_port(client: Client) -> None:
    begin = time.monotonic()
    sweep = client.sweep(experiment.losses_sweep()).wait(timeout=END_SECONDS)
    seconds = time.monotonic() - begin
    members = sweep.comparison()["members"]
    accuracies = {loss: [] for loss in LOSSES}
    for member in members:
        accuracies[member["overrides"]["loss.type"]].append(member["metrics"]["val/accuracy"])
    means = {loss: round(sum(values) / len(values), 4) for loss, values in accuracies.items()}
    report(f"the demo's {len(members)} jobs", seconds=seconds, accuracy=means)
    assert sweep.state == "succeeded"
    assert min(means.values()) > 0.95


@pytest.mark.parametrize("victim", RESTARTS)
def test_a_killed_container_comes_back_and_no_bit_changes(
    cluster: Cluster, client: Client, undisturbed: dict[str, str], victim: str
) -> None:
    cluster.up(workers=3)
    # Each container has one CPU and so one worker of this job: it is affected, whichever container is killed.
    running = client.submit(job("hinge", 3))
    wait_for_step(running, 100)
    begin = time.monotonic()
    cluster.crash(victim)
    killed = datetime.now(UTC)
    submitted_meanwhile = client.submit(job("softmax", 1))
    cluster.wait_until_healthy([victim])
    back = time.monotonic() - begin
    digests = {"hinge": finish(running), "softmax": finish(submitted_meanwhile)}
    done = time.monotonic() - begin
    restarts, equal = running["restarts"], digests == undisturbed
    report(f"{victim} killed", healthy_after=back, done_after=done, restarts=restarts, equal=equal)
    assert digests == undisturbed
    assert datetime.fromisoformat(running["finished_at"]) > killed
    assert restarts in RESTARTS[victim]


def test_a_stopped_cluster_goes_on_when_it_is_started(
    cluster: Cluster, client: Client, undisturbed: dict[str, str]
) -> None:
    cluster.up(workers=2)
    running = client.submit(job("hinge", 2))
    wait_for_step(running, 100)
    workers = cluster.containers("ray-worker")
    begin = time.monotonic()
    cluster.compose("stop")
    stopped = time.monotonic() - begin
    # Not 137: they end by themselves before Compose kills them.
    assert {inspect(worker, "{{.State.ExitCode}}") for worker in workers} == {"0"}
    cluster.up(workers=2)
    cluster.wait_until_healthy(SERVICES)
    assert finish(running) == undisturbed["hinge"]
    report("stopped during a job and started again", seconds_to_stop=stopped, equal=True)


def test_mlflow_has_every_job(cluster: Cluster, client: Client) -> None:
    for run in exported_jobs(client):
        query = {"run_id": run["mlflow"]["run_id"]}
        answer = httpx.get(
            f"{cluster.mlflow_url}/api/2.0/mlflow/runs/get", params=query, auth=("anyone", cluster.token())
        )
        assert answer.json()["run"]["info"]["status"] == "FINISHED"


def test_a_backup_restores_everything(cluster: Cluster, client: Client, undisturbed: dict[str, str]) -> None:
    """Back up and restore with the commands of docs/operations.md. In between, everything is deleted."""
    page = (ROOT / "docs" / "operations.md").read_text()
    (section,) = re.findall(r"^## Backup and restore\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    backup, restore = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    begin = time.monotonic()
    before = contents(cluster, client)
    cluster.shell(backup)
    cluster.down()
    cluster.shell(restore)
    cluster.wait_until_healthy(SERVICES)
    assert contents(cluster, client) == before
    report("backup, everything lost, restored", seconds=time.monotonic() - begin, jobs=len(before))
    assert finish(client.submit(job("hinge", 1))) == undisturbed["hinge"]


def exported_jobs(client: Client) -> list[Job]:
    """Every job, once its export to MLflow is complete."""
    jobs = list(client.jobs())
    for run in jobs:
        wait_until(
            lambda run=run: (run.refresh()["mlflow"] or {}).get("complete"), RECOVERY_SECONDS, f"{run.id} is exported"
        )
    return jobs


def contents(cluster: Cluster, client: Client) -> dict[str, Any]:
    """The digest, the points, and the parameters in MLflow of each job."""
    found = {}
    for run in exported_jobs(client):
        files = {"path": "model/model.safetensors", "run_uuid": run["mlflow"]["run_id"]}
        params = httpx.get(f"{cluster.mlflow_url}/get-artifact", params=files, auth=("anyone", cluster.token()))
        assert params.is_success, params.text
        found[run.id] = (run["params_sha256"], run.export_metrics("text/csv"), params.content)
    return found
