"""Starting, stopping and killing the stack."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.e2e.job_history import assert_unbroken, history_of
from tests.e2e.stack import GRADFLEET, ORPHAN, Stack, digits_job, series_of, wait_until, write_digits

# Metrics that differ between equal runs.
TIMES = ("time/step_ms", "time/exchange_ms")


def test_results_are_kept_after_a_restart(tmp_path: Path) -> None:
    stack = Stack(tmp_path).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        before = client.submit(digits_job()).wait(timeout=60)
        metrics = series_of(before)
    assert stack.signal(signal.SIGINT) == 0
    stack.assert_no_process_left()

    stack.start()
    with stack.client() as client:
        after = client.job(before["id"])
        assert (after["state"], after["params_sha256"]) == ("succeeded", before["params_sha256"])
        assert series_of(after) == metrics
        assert client.submit(digits_job()).wait(timeout=60)["params_sha256"] == before["params_sha256"]
        registering = register_endless_file(stack)
    assert stack.signal(signal.SIGTERM) == 0
    stack.assert_no_process_left()
    assert not registering.exists(), "the process that reads the file has ended"
    assert list((tmp_path / "datasets").glob(".preparing-*")) == []


def register_endless_file(stack: Stack) -> Path:
    """Start a registration that takes hours; returns the directory of its process in /proc."""
    with (stack.data_dir / "uploads" / "endless.csv.gz").open("wb") as file:
        file.write(gzip.compress(b"a,label\n"))
        file.truncate(2**40)  # Python's gzip skips zeros after the content, one by one

    def register() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{stack.api_url}/v1/datasets", json={"name": "x", "path": "endless.csv.gz"}, timeout=60)

    threading.Thread(target=register, daemon=True).start()
    assert stack.process is not None
    tasks = Path(f"/proc/{stack.process.pid}/task")

    def process() -> Path | None:
        children = [child for each in tasks.glob("*/children") for child in each.read_text().split()]
        found = [Path("/proc") / child for child in children]
        return next((one for one in found if b"datasets.tasks.prepare" in (one / "cmdline").read_bytes()), None)

    found: Path = wait_until(process, 30, "the process that reads the file")
    wait_until(lambda: any(stack.data_dir.glob("datasets/.preparing-*/unpacked-*/*")), 30, "it reads the file")
    return found


def test_a_stack_stops_while_ray_starts(tmp_path: Path) -> None:
    stack = Stack(tmp_path)

    def interrupt() -> None:
        """Stop Ray's GCS as soon as it runs: connecting to Ray then waits for it for a long time."""
        for process in wait_until(lambda: stack.pids("gcs_server"), 60, "the GCS runs"):
            os.kill(process, signal.SIGSTOP)
        assert stack.process is not None
        stack.process.send_signal(signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(AssertionError, match="no ready line, but ''"):
        stack.start()
    interrupting.join()
    # Ray's library may keep the interpreter's lock for half a minute. The guard then kills the process.
    status = stack.signal(signal.SIGINT)
    assert status in {0, -signal.SIGKILL}
    stack.assert_no_process_left()
    if status == 0:
        assert not (tmp_path / "ray").is_symlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_job_ends_with_the_same_bits(tmp_path: Path, number: int) -> None:
    training = digits_job()["training"] | {"epochs": 300}
    job = digits_job(training=training, checkpoints={"every_seconds": 0.2})
    stack = Stack(tmp_path).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        undisturbed = client.submit(job).wait(timeout=60)
        interrupted = client.submit(job)["id"]
        wait_until(lambda: client.job(interrupted)["progress"]["epoch"] > 0, 30, "the first epoch")
        before = history_of(client, interrupted)
    stack.signal(number)
    stack.start()
    with stack.client() as client:
        continued = client.job(interrupted).wait(timeout=60)
        assert continued["state"] == "succeeded"
        assert len(continued["attempts"]) == 2, "the first attempt was interrupted"
        assert continued["restarts"] == 0, "a restart of the service does not count as a restart of the job"
        first_steps = [e["data"]["step"] for e in client.job(interrupted).history() if e["kind"] == "training_started"]
        assert first_steps[0] == 0 < first_steps[1], "the second attempt resumed from a checkpoint"
        assert continued["params_sha256"] == undisturbed["params_sha256"]
        first, second = series_of(client.job(undisturbed.id)), series_of(continued)
        for name in TIMES:
            del first[name], second[name]
        assert first == second
        assert history_of(client, interrupted)[: len(before)] == before, "earlier events do not change"
        assert_unbroken(client, interrupted)
    stack.signal(signal.SIGTERM)
    stack.end_leftovers()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_job_survives_the_loss_of_the_cluster(tmp_path: Path, victim: str) -> None:
    """Ray ends a process that loses its raylet and whose parent is process 1, so the stack has this parent here."""
    training = digits_job()["training"] | {"epochs": 400}
    spec = digits_job(training=training, checkpoints={"every_seconds": 0.2})
    stack = Stack(tmp_path).start(launcher=ORPHAN)
    service = stack.orphan()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        undisturbed = client.submit(spec).wait(timeout=60)
        job_id = client.submit(spec)["id"]
        wait_until(lambda: client.job(job_id)["progress"]["epoch"] > 20, 30, "some epochs")
        stack.kill(victim)
        job = client.job(job_id).wait(timeout=90)
        assert (job["state"], job["restarts"]) == ("succeeded", 1), job["reason"]
        assert job["params_sha256"] == undisturbed["params_sha256"]
        (restart,) = (event for event in client.job(job_id).history() if event["kind"] == "restarted")
        assert restart["reason"] in {"cluster_lost", "supervisor_lost"}, "whichever is detected first"
        first, second = series_of(undisturbed), series_of(job)
        for name in TIMES:
            del first[name], second[name]
        assert first == second
    assert stack.orphan() == service, "the service has not been restarted"
    output = stack.stop_orphan()
    assert output.endswith("Gradfleet is stopping.\n"), "signals still reach the process after Ray was started again"
    stack.end_leftovers()


def test_a_data_directory_that_is_in_use_is_refused(stack: Stack) -> None:
    second = subprocess.run(
        [*GRADFLEET, "up", "--port", "0", "--data-dir", str(stack.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"the data directory {stack.data_dir} is in use by another gradfleet" in second.stderr


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


def test_other_machines_are_not_served_without_a_token(tmp_path: Path) -> None:
    up = subprocess.run(
        [*GRADFLEET, "up", "--host", "0.0.0.0", "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert up.returncode == 2
    assert "0.0.0.0 is not a loopback address" in up.stderr
    assert "gradfleet tokens add NAME" in up.stderr
    assert not (tmp_path / "data").exists()


def test_a_stack_stops_while_mlflow_hangs(tmp_path: Path) -> None:
    stack = Stack(tmp_path).start()
    with stack.client() as client:
        client.register_dataset("digits", write_digits(tmp_path / "uploads" / "digits.parquet"), "label")
        stack.signal_mlflow(signal.SIGSTOP)
        client.submit(digits_job()).wait(timeout=60)  # the exporter waits for MLflow
    assert stack.signal(signal.SIGTERM) == 0
    stack.assert_no_process_left()
