"""Probes, metrics and logs of a real stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.stack import Stack, digits_job, wait_until

if TYPE_CHECKING:
    from service.client import Client


def test_probes_metrics_and_the_log_of_a_job(client: Client, stack: Stack) -> None:
    ready = httpx.get(f"{stack.api_url}/readyz", trust_env=False)
    assert ready.status_code == 200, ready.text
    assert {name: part["ready"] for name, part in ready.json()["components"].items()} == dict.fromkeys(
        ("database", "disk", "cluster", "scheduler", "mlflow", "connections"), True
    )
    before = metrics(stack)
    job = client.submit(digits_job(name="watched")).wait(timeout=60)
    assert job["state"] == "succeeded"
    epochs = "gradfleet_training_step_seconds_count"  # observed last
    wait_until(
        lambda: metrics(stack)[epochs] == before[epochs] + job["progress"]["epoch"], 10, "all epochs are observed"
    )
    wait_until(lambda: metrics(stack)["gradfleet_mlflow_unexported_points"] == 0, 30, "MLflow has all points")
    after = metrics(stack)
    grown = {name: after[name] - before[name] for name in after if name in before}
    assert grown["gradfleet_job_queue_wait_seconds_count"] == 1
    assert grown["gradfleet_job_first_loss_seconds_count"] == 1
    assert grown["gradfleet_training_steps_total"] == job["progress"]["total_steps"]
    assert grown["gradfleet_scheduler_pass_seconds_count"] > 0
    log = (stack.data_dir / "logs" / "gradfleet.log").read_text().splitlines()
    entries = [entry for entry in map(json.loads, log) if entry.get("job_id") == job["id"]]
    assert {"service.scheduling.scheduler", "service.scheduling.follower", "service.http.observed"} <= {
        entry["logger"] for entry in entries
    }


def metrics(stack: Stack) -> dict[str, float]:
    text = httpx.get(f"{stack.api_url}/metrics", trust_env=False).raise_for_status().text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name: sample.value for sample in samples if not sample.labels}
