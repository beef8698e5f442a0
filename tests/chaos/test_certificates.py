"""Certificates are verified on other numbers of workers, and what was changed is found."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.chaos.disturbed import PATIENCE, Bench, job
from tests.e2e.stack import GRADFLEET
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(900)


def certificate_of(bench: Bench, job_id: str) -> dict[str, Any]:
    return bench.client.job(job_id).wait(timeout=PATIENCE).certificate()


def verify(bench: Bench, certificate: dict[str, Any], file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    file.write_text(json.dumps(certificate))
    command = [*GRADFLEET, "verify", str(file), "--workers", "3", "--url", bench.stack.api_url, *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_three_workers_verify_the_certificate_of_one(bench: Bench, tmp_path: Path) -> None:
    spec = job(epochs=3) | {"resources": {"workers": 1}}
    certificate = certificate_of(bench, bench.client.submit(spec)["id"])
    done = verify(bench, certificate, tmp_path / "certificate.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal: 32 milestones" in done.stdout

    third = certificate["milestones"][2]
    third["params_sha256"] = f"{int(third['params_sha256'], 16) ^ 1:064x}"
    done = verify(bench, certificate, tmp_path / "changed.json")
    assert done.returncode == 1, done.stdout + done.stderr
    before, after = milestone_steps(36)[1:3]
    assert f"differ first between steps {before} and {after}" in done.stderr
    assert "the certificate was changed, and not the run" in done.stderr


def tamper(place: Path) -> None:
    """Change the last bit of one parameter of a checkpoint, with all checksums as they must be."""
    tensors = load_file(place / "model.safetensors")
    weight = tensors["0_linear.weight"]
    weight[3, 3] = np.nextafter(weight[3, 3], np.float32(9))
    save_file(tensors, place / "model.safetensors")
    header = json.loads((place / "checkpoint.json").read_text())
    del header["sha256"]
    header["files"]["model.safetensors"] = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    header["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (place / "checkpoint.json").write_text(json.dumps(header))


def test_three_workers_replay_intervals_of_one(bench: Bench, tmp_path: Path) -> None:
    checkpoints = {"every_steps": 8, "keep": 10}
    spec = job(epochs=3) | {"resources": {"workers": 1}, "checkpoints": checkpoints}
    certificate = certificate_of(bench, bench.client.submit(spec)["id"])
    assert [each["step"] for each in certificate["checkpoints"]] == [8, 16, 24, 32, 36]
    done = verify(bench, certificate, tmp_path / "certificate.json", "--sample", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "replayed 36 of 36 steps" in done.stdout

    place = bench.directory(certificate["job"]["id"]) / "checkpoints" / f"{16:012d}"
    tamper(place)
    done = verify(bench, certificate, tmp_path / "certificate.json", "--sample", "5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the steps from 16 to 24 were not replayed, because the checkpoint of step 16 was changed" in done.stderr
    assert "replayed 16 of 36 steps" in done.stdout


def test_a_changed_checkpoint_with_right_checksums_is_found(bench: Bench) -> None:
    job_id = bench.client.submit(job(epochs=100))["id"]
    assert bench.wait_for_step(job_id, 200)
    bench.client.job(job_id).pause()
    bench.wait_for_state(job_id, "paused")
    (*_, newest) = sorted(path for path in (bench.directory(job_id) / "checkpoints").iterdir() if path.name.isdigit())
    tamper(newest)
    bench.client.job(job_id).resume()
    certificate = certificate_of(bench, job_id)
    step = int(newest.name)
    assert not bench.events(job_id, "checkpoint_refused")
    assert bench.events(job_id, "training_started")[-1]["data"]["step"] == step

    found = bench.client.verify(certificate, workers=3).wait(timeout=PATIENCE)["verification"]
    assert found["equal"] is False
    first = found["first_difference"]
    milestones = [0, *milestone_steps(1200)]
    assert first["after_step"] == max(each for each in milestones if each <= step)
    assert first["by_step"] == min(each for each in milestones if each > step)
    assert first["first_step"] == step + 1, "the first loss that was computed with the changed parameter"
