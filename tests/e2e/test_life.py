"""Starting, stopping and killing the stack."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.stack import GRADFLEET, Stack, digits_job, wait_until, write_digits


def test_what_was_done_is_there_after_a_restart(tmp_path: Path) -> None:
    stack = Stack(tmp_path).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        before = client.wait(client.submit(digits_job())["id"], timeout=60)
        metrics = client.metrics(before["id"])
    assert stack.signal(signal.SIGINT) == 0
    stack.assert_no_process_left()

    stack.start()
    with stack.client() as client:
        after = client.job(before["id"])
        assert (after["state"], after["params_sha256"]) == ("succeeded", before["params_sha256"])
        assert client.metrics(before["id"]) == metrics
        assert client.wait(client.submit(digits_job())["id"], timeout=60)["params_sha256"] == before["params_sha256"]
    assert stack.signal(signal.SIGTERM) == 0
    stack.assert_no_process_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_was_cut_off_ends_with_the_same_bits(tmp_path: Path, number: int) -> None:
    training = digits_job()["training"] | {"epochs": 300}
    job = digits_job(training=training, checkpoints={"every_seconds": 0.2})
    stack = Stack(tmp_path).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        undisturbed = client.wait(client.submit(job)["id"], timeout=60)
        cut_off = client.submit(job)["id"]
        wait_until(lambda: client.job(cut_off)["progress"]["epoch"] > 0, 30, "the first epoch")
    stack.signal(number)
    stack.start()
    with stack.client() as client:
        continued = client.wait(cut_off, timeout=60)
        assert continued["state"] == "succeeded"
        assert len(continued["attempts"]) == 2, "the first attempt was in the middle when it was cut off"
        assert continued["restarts"] == 0, "a restart of the service is no fault of the job's"
        beginnings = [e["data"]["step"] for e in client.events(cut_off) if e["kind"] == "training_started"]
        assert beginnings[0] == 0 < beginnings[1], "it went on from a checkpoint"
        assert continued["params_sha256"] == undisturbed["params_sha256"]
        first, second = client.metrics(undisturbed["id"]), client.metrics(cut_off)
        first.pop("time/step_ms")
        second.pop("time/step_ms")
        assert first == second
    stack.signal(signal.SIGTERM)
    stack.end_leftovers()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_job_outlives_the_whole_cluster(tmp_path: Path, victim: str) -> None:
    training = digits_job()["training"] | {"epochs": 400}
    spec = digits_job(training=training, checkpoints={"every_seconds": 0.2})
    stack = Stack(tmp_path).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        undisturbed = client.wait(client.submit(spec)["id"], timeout=60)
        job_id = client.submit(spec)["id"]
        wait_until(lambda: client.job(job_id)["progress"]["epoch"] > 20, 30, "some epochs")
        stack.kill(victim)
        job = client.wait(job_id, timeout=90)
        assert (job["state"], job["restarts"]) == ("succeeded", 1), job["reason"]
        assert job["params_sha256"] == undisturbed["params_sha256"]
        (restart,) = (event for event in client.events(job_id, limit=100) if event["kind"] == "restarted")
        assert restart["reason"] in {"cluster_lost", "supervisor_lost"}, "whichever is noticed first"
        first, second = client.metrics(undisturbed["id"]), client.metrics(job_id)
        first.pop("time/step_ms")
        second.pop("time/step_ms")
        assert first == second
    assert stack.signal(signal.SIGTERM) == 0, "signals still reach the process after Ray was started again"
    stack.end_leftovers()


def test_a_data_directory_is_used_once(stack: Stack) -> None:
    second = subprocess.run(
        [*GRADFLEET, "up", "--port", "0", "--data-dir", str(stack.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"the data directory {stack.data_dir} is used by another gradfleet" in second.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        up = subprocess.run(
            [*GRADFLEET, "up", "--port", port, "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert up.returncode == 1
    assert f"port {port}" in up.stderr


def test_other_machines_are_not_served(tmp_path: Path) -> None:
    up = subprocess.run(
        [*GRADFLEET, "up", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert up.returncode == 2
    assert "0.0.0.0 is not a loopback address" in up.stderr
    assert not (tmp_path / "data").exists()
