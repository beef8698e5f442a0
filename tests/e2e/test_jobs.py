"""Jobs through the whole stack: REST, scheduler, Ray, MLflow."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient
from safetensors.numpy import load_file

from tests.e2e.mlflow_series import assert_exported
from tests.e2e.stack import GRADFLEET, Stack, digits_job, series_of, wait_until, write_digits

if TYPE_CHECKING:
    from service.client import Client, Job


EXPORTED = 90.0  # seconds: pictures are drawn only while the cores are idle


def exported(client: Client, job_id: str) -> Job:
    """The job, once its export to MLflow is complete."""

    def look() -> Job | None:
        job = client.job(job_id)
        return job if job["mlflow"] and job["mlflow"]["complete"] else None

    found: Job = wait_until(look, EXPORTED, f"MLflow has the run of {job_id}")
    return found


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: series for name, series in metrics.items() if not name.startswith("time/")}


@pytest.mark.parametrize("loss", ["hinge", "softmax"])
def test_the_number_of_workers_changes_no_bit(client: Client, loss: str) -> None:
    ids = [client.submit(digits_job(loss={"type": loss}, resources={"workers": workers}))["id"] for workers in (1, 2)]
    first, second = (client.job(job_id).wait(timeout=60) for job_id in ids)
    assert first["state"] == second["state"] == "succeeded", (first["reason"], second["reason"])
    assert first["params_sha256"] == second["params_sha256"] is not None
    one, two = (without_times(series_of(job)) for job in (first, second))
    assert one == two
    assert one["train/loss"]["steps"] == list(range(1, 61)), "12 steps in each of 5 epochs"


def test_a_job_is_split_by_a_column(stack: Stack, client: Client, tmp_path: Path) -> None:
    """The bits are the same on any number of workers, and the pictures show the rows that the column selects."""
    table = pq.read_table(write_digits(tmp_path / "digits.parquet"))
    parts = np.arange(len(table)) % 3
    pq.write_table(table.append_column("fold", [parts]), tmp_path / "folds.parquet")
    assert client.upload_dataset("folds", tmp_path / "folds.parquet", split_column="fold")["features"] == 64
    data = {"dataset": "folds", "split": {"train": ["0", "2"], "validation": ["1"]}}
    ids = [client.submit(digits_job(data=data, resources={"workers": workers}))["id"] for workers in (1, 2)]
    first, second = (client.job(job_id).wait(timeout=60) for job_id in ids)
    assert first["state"] == second["state"] == "succeeded", (first["reason"], second["reason"])
    assert first["params_sha256"] == second["params_sha256"] is not None
    assert first["metrics"]["val/accuracy"] > 0.9
    run_id = exported(client, first.id)["mlflow"]["run_id"]
    pictures = [entry.path for entry in MlflowClient(stack.mlflow_url).list_artifacts(run_id, "pictures")]
    assert {"pictures/confusion_matrix.png", "pictures/learning_curves.png"} <= set(pictures)


def test_another_seed_gives_other_parameters(client: Client) -> None:
    training = digits_job()["training"]
    ids = [client.submit(digits_job(training=training | {"seed": seed, "epochs": 1}))["id"] for seed in (1, 2)]
    first, second = (client.job(job_id).wait(timeout=60)["params_sha256"] for job_id in ids)
    assert first != second


BRANCHES = [
    {"type": "linear", "units": 32, "name": "stem"},
    {"type": "relu", "name": "left"},
    {"type": "linear", "units": 16, "name": "right", "inputs": ["stem"]},
    {"type": "tanh"},
    {"type": "concat", "inputs": ["left", "3_tanh"]},
    {"type": "linear", "units": 32, "name": "mixed"},
    {"type": "add", "inputs": ["mixed", "stem"]},
    {"type": "linear", "units": 10},
]


def test_a_model_with_branches_trains_to_the_same_bits_on_any_number_of_workers(client: Client) -> None:
    jobs = [digits_job(model={"layers": BRANCHES}, resources={"workers": workers}) for workers in (1, 2)]
    ids = [client.submit(job)["id"] for job in jobs]
    first, second = (client.job(job_id).wait(timeout=60) for job_id in ids)
    assert first["state"] == second["state"] == "succeeded", (first["reason"], second["reason"])
    assert first["params_sha256"] == second["params_sha256"] is not None
    assert first["metrics"]["val/accuracy"] > 0.9
    written = first["spec"]["model"]["layers"]
    assert [layer.get("inputs") for layer in written] == [layer.get("inputs") for layer in BRANCHES]
    assert [layer.get("name") for layer in written] == [layer.get("name") for layer in BRANCHES]


def test_mlflow_has_the_run(client: Client, stack: Stack, tmp_path: Path) -> None:
    job = exported(client, client.submit(digits_job(name="tracked"))["id"])
    tracking = MlflowClient(stack.mlflow_url)
    run = tracking.get_run(job["mlflow"]["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["loss.type"] == "hinge"
    assert run.data.params["training.seed"] == "7"
    assert_exported(stack, job)
    model = load_file(tracking.download_artifacts(run.info.run_id, "model/model.safetensors", str(tmp_path)))
    assert model["0_linear.weight"].shape == (64, 32)
    assert model["0_linear.weight"].dtype == np.float32
    header = json.loads(
        Path(tracking.download_artifacts(run.info.run_id, "model/checkpoint.json", str(tmp_path))).read_text()
    )
    assert header["params_sha256"] == job["params_sha256"]
    certificate = tracking.download_artifacts(run.info.run_id, "model/certificate.json", str(tmp_path))
    assert json.loads(Path(certificate).read_text()) == job.certificate()
    assert run.data.tags["gradfleet.certificate.root"] == job.certificate()["root"]


def test_mlflow_has_fewer_points_of_a_long_job(client: Client, stack: Stack) -> None:
    job = exported(client, client.submit(digits_job(training=digits_job()["training"] | {"epochs": 200}))["id"])
    assert job["progress"]["total_steps"] == 2400
    assert_exported(stack, job)


def test_a_job_whose_data_is_gone_has_a_reason(client: Client, stack: Stack) -> None:
    source = write_digits(stack.data_dir / "uploads" / "doomed.parquet")
    pq.write_table(pq.read_table(source).slice(0, 500), source)
    client.register_dataset("doomed", source, "label")
    registered = {path.name for path in (stack.data_dir / "datasets").iterdir()}
    digests = {entry["name"]: entry["digest"] for entry in client.datasets()}
    assert f"{digests['doomed']}.arrow" in registered
    (stack.data_dir / "datasets" / f"{digests['doomed']}.arrow").unlink()

    job = exported(client, client.submit(digits_job(data={"dataset": "doomed"}))["id"])
    assert job["state"] == "failed"
    assert "the dataset's file is gone" in job["reason"]
    run = MlflowClient(stack.mlflow_url).get_run(job["mlflow"]["run_id"])
    assert run.info.status == "FAILED"
    assert "the dataset's file is gone" in run.data.tags["gradfleet.reason"]


def test_a_poisoned_job_fails_with_its_step(client: Client) -> None:
    diverging = digits_job(optimizer={"type": "sgd", "lr": 1e12}, regularization={"l2": 1.0})
    job = client.submit(diverging).wait(timeout=60, raise_on_failure=False)
    assert job["state"] == "failed"
    assert job["reason"].startswith("non_finite_loss: the loss became")
    assert "step" in job["reason"]


def test_a_running_job_is_cancelled(client: Client) -> None:
    job_id = client.submit(digits_job(training=digits_job()["training"] | {"epochs": 100_000}))["id"]
    wait_until(lambda: client.job(job_id)["progress"]["step"] > 0, 30, "the first step")
    assert client.job(job_id).cancel()["state"] == "cancelling"
    job = exported(client, client.job(job_id).wait(timeout=10, raise_on_failure=False)["id"])
    assert job["state"] == "cancelled"
    assert 0 < job["progress"]["step"] < job["progress"]["total_steps"]


def test_pausing_and_resuming_with_other_workers_changes_no_bit(client: Client) -> None:
    spec = digits_job(training=digits_job()["training"] | {"epochs": 200})
    undisturbed = client.submit(spec).wait(timeout=60)
    job_id = client.submit(spec)["id"]
    wait_until(lambda: client.job(job_id)["progress"]["step"] > 0, 30, "the first step")
    assert client.job(job_id).pause()["state"] == "pausing"
    wait_until(lambda: client.job(job_id)["state"] == "paused", 10, "the job is paused")
    assert client.job(job_id).resize(workers=1)["spec"]["resources"]["workers"] == 1
    assert client.job(job_id).resume()["state"] == "queued"
    job = client.job(job_id).wait(timeout=60)
    assert (job["state"], job["restarts"]) == ("succeeded", 0)
    assert job["params_sha256"] == undisturbed["params_sha256"]
    assert without_times(series_of(job)) == without_times(series_of(undisturbed))
    started = [event["data"] for event in client.job(job_id).history() if event["kind"] == "training_started"]
    assert [entry["workers"] for entry in started] == [2, 1]
    assert 0 == started[0]["step"] < started[1]["step"]


def test_waiting_jobs_have_a_reason(client: Client) -> None:
    long = client.submit(digits_job(training=digits_job()["training"] | {"epochs": 100_000}))["id"]
    waiting = client.submit(digits_job())["id"]
    wait_until(lambda: client.job(waiting)["reason"], 30, "a reason")
    assert client.job(waiting)["reason"].startswith("waiting_for_cpus: needs 2 CPUs, and 0 of")
    assert client.job(waiting).cancel()["state"] == "cancelled"
    client.job(long).cancel()
    assert client.job(long).wait(timeout=20, raise_on_failure=False)["state"] == "cancelled"


def test_the_command_line(stack: Stack, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*GRADFLEET, *arguments, "--url", stack.api_url], capture_output=True, text=True, timeout=60, check=False
        )

    spec = tmp_path / "job.json"
    spec.write_text(json.dumps(digits_job(name="from-a-file")))
    submitted = run("submit", str(spec))
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    watched = run("watch", job_id)
    assert watched.returncode == 0, watched.stderr
    assert "succeeded" in watched.stdout.splitlines()[-1]
    assert json.loads(run("show", job_id).stdout)["name"] == "from-a-file"
    assert job_id in run("jobs").stdout
    ended = run("cancel", job_id)
    assert ended.returncode == 1
    assert "succeeded" in ended.stderr
