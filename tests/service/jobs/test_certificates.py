"""Certificates of jobs on a fake cluster, and what their verification finds."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import stat
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from service.jobs.certificates.comparison import differences, own_differences
from service.jobs.certificates.document import Certificate, Results, root_of
from tests.service.fixtures.support import hinge_job, run, wait_until
from workers.record.events import Checkpointed, Ended, Progress, Series, Started
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from service.client import Client, Job
    from service.settings import Settings
    from tests.service.fakes.cluster import FakeAttempt, FakeCluster

pytestmark = pytest.mark.usefixtures("digits", "scheduler")

SPEC = hinge_job(**{"training.epochs": 40})
STEPS = 80  # two batches of the 240 training rows in each epoch
MILESTONES = milestone_steps(STEPS)
FINGERPRINT = {"numpy": "2.4", "blas": "openblas 0.3"}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def digest_of(step: int, wrong_from: int) -> str:
    return hashlib.sha256(f"{step} {step >= wrong_from}".encode()).hexdigest()


def train(attempt: FakeAttempt, *, wrong_from: int = STEPS + 1, fingerprint: dict[str, str] = FINGERPRINT) -> None:
    """Report a whole run whose parameters differ from those of other runs after the step `wrong_from`."""
    steps = np.arange(1, STEPS + 1)
    losses = 1 / steps + (steps > wrong_from) * 1e-16 * steps
    series = {
        "train/loss": Series(steps, losses, steps),
        "val/loss": Series(steps[1::2], np.where(steps[1::2] == 4, np.nan, -0.0), steps[1::2]),
        "time/step_ms": Series(steps[1::2], np.random.default_rng().random(STEPS // 2), steps[1::2]),
    }
    milestones = {step: digest_of(step, wrong_from) for step in MILESTONES}
    attempt.report(Started(0, 1, fingerprint, {}))
    attempt.report(Progress(40, STEPS, series, milestones), Checkpointed(STEPS, milestones[STEPS]))
    attempt.report(Ended("succeeded", "completed"))


def trained(job: Job, cluster: FakeCluster, **how: Any) -> Job:
    """The job after a whole run."""

    def attempt() -> FakeAttempt | None:
        return next((each for each in cluster.attempts if each.assignment.job == job.id), None)

    train(wait_until(attempt, f"{job.id} starts"), **how)
    return job.wait(timeout=20)


@pytest.fixture
def certified(client: Client, cluster: FakeCluster) -> dict[str, Any]:
    """The certificate of a job."""
    return trained(client.submit(SPEC), cluster).certificate()


def test_only_a_job_that_has_succeeded_has_a_certificate(
    api: httpx.Client, client: Client, cluster: FakeCluster
) -> None:
    job = client.submit(SPEC)
    wait_until(lambda: cluster.attempts, "the job starts")
    answer = api.get(f"/v1/jobs/{job.id}/certificate")
    assert answer.status_code == 409
    assert "only a job that has succeeded has one" in answer.json()["detail"]
    trained(job, cluster)
    assert api.get(f"/v1/jobs/{job.id}/certificate").status_code == 200
    assert api.get("/v1/jobs/job_0/certificate").status_code == 404


def test_others_can_check_it_with_ten_lines(certified: dict[str, Any]) -> None:
    def sha256(value: Any) -> str:
        return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    content = {name: value for name, value in certified.items() if name not in {"root", "signature"}}
    assert certified["root"] == sha256(content)
    assert certified["spec_sha256"] == sha256(certified["spec"])
    signature = certified["signature"]
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
    public_key.verify(bytes.fromhex(signature["value"]), certified["root"].encode())


def test_what_a_certificate_holds(certified: dict[str, Any], client: Client) -> None:
    (job,) = client.jobs()
    assert certified["job"] == {"id": job.id, "name": "digits-hinge"}
    assert certified["spec"] == {name: part for name, part in job["spec"].items() if name != "resources"}
    assert certified["dataset"] == {"name": "digits", "digest": job["dataset"]["digest"], "rows": 300}
    assert (certified["device"], certified["arithmetic"]) == ("cpu", "x86-64-v3")
    assert certified["fingerprint"] == FINGERPRINT
    assert [each["step"] for each in certified["milestones"]] == MILESTONES
    assert certified["params_sha256"] == certified["milestones"][-1]["params_sha256"] == job["params_sha256"]
    assert certified["series"].keys() == {"train/loss", "val/loss"}, "times differ in every run"
    rows = np.array([[step, 1 / step] for step in range(1, STEPS + 1)], "<f8")
    assert certified["series"]["train/loss"] == {
        "points": STEPS,
        "sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
        "last": 1 / STEPS,
    }
    # SQLite has neither NaN nor -0.0.
    rows = np.array([[step, np.nan if step == 4 else 0.0] for step in range(2, STEPS + 1, 2)], "<f8")
    assert certified["series"]["val/loss"]["sha256"] == hashlib.sha256(rows.tobytes()).hexdigest()


def test_the_key_is_private_and_stays(certified: dict[str, Any], settings: Settings, client: Client) -> None:
    file = settings.data_dir / "certificate-key.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not [path for path in settings.data_dir.iterdir() if path.name.endswith(".partial")]
    (job,) = client.jobs()
    assert job.certificate() == certified


def test_another_run_is_equal(certified: dict[str, Any], client: Client, cluster: FakeCluster) -> None:
    job = client.verify(certified, workers=3)
    assert job["spec"]["resources"]["workers"] == 3
    assert (job["task"], job["ranked_by"]) == ("classification", "val/accuracy")
    assert (job["experiment"], job["labels"]) == ("verifications", {"verifies": certified["job"]["id"]})
    assert job["verification"]["equal"] is None
    assert job["spec"]["training"] == certified["spec"]["training"]
    assert job["dataset"]["digest"] == certified["dataset"]["digest"]
    found = trained(job, cluster, fingerprint=FINGERPRINT | {"numpy": "2.5"})["verification"]
    assert (found["of"], found["root"]) == (certified["job"]["id"], certified["root"])
    assert (found["equal"], found["first_difference"], found["differences"]) == (True, None, [])
    signed, changed = found["notes"]
    assert signed.startswith("signed by this service")
    assert changed == "numpy changed: 2.4 -> 2.5"


def test_a_job_is_verified_by_its_id(api: httpx.Client, client: Client, cluster: FakeCluster) -> None:
    job = trained(client.submit(SPEC), cluster)
    answer = api.post(f"/v1/jobs/{job.id}/verify?workers=2", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201, answer.text
    again = api.post(f"/v1/jobs/{job.id}/verify?workers=2", headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
    assert trained(client.job(answer.json()["id"]), cluster)["verification"]["equal"] is True
    client.job(answer.json()["id"]).delete()
    job.delete()


def test_a_run_that_differs_is_named_with_interval_and_step(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    found = trained(client.verify(certified), cluster, wrong_from=41)["verification"]
    assert found["equal"] is False
    first = found["first_difference"]
    before, after = max(step for step in MILESTONES if step < 41), min(step for step in MILESTONES if step >= 41)
    assert (first["field"], first["after_step"], first["by_step"]) == ("milestones", before, after)
    assert first["first_step"] == 42, "the first loss that is computed with other parameters"
    fields = [each["field"] for each in found["differences"]]
    assert fields == ["milestones", "series.train/loss", "params_sha256"]


def changed_digit(digits: str) -> str:
    """A hexadecimal number with another first digit."""
    return ("0" if digits[0] != "0" else "1") + digits[1:]


CHANGES: dict[str, tuple[list[Any], Any]] = {
    "milestones": (["milestones", 3, "params_sha256"], changed_digit),
    "series.train/loss": (["series", "train/loss", "sha256"], changed_digit),
    "series.val/loss": (["series", "val/loss", "points"], lambda points: points + 1),
    "params_sha256": (["params_sha256"], changed_digit),
    "root": (["root"], changed_digit),
    "signature": (["signature", "value"], changed_digit),
    "spec_sha256": (["spec_sha256"], changed_digit),
    "arithmetic": (["arithmetic"], lambda _: "x86-64-v2"),
}


def test_one_changed_digit_is_named(certified: dict[str, Any]) -> None:
    results = Results.model_validate({name: certified[name] for name in Results.model_fields})
    for field, (path, change) in CHANGES.items():
        changed = copy.deepcopy(certified)
        *parents, last = path
        place = reduce(lambda value, part: value[part], parents, changed)
        place[last] = change(place[last])
        certificate = Certificate.model_validate(changed)
        named = [each.field for each in [*own_differences(certificate), *differences(certificate, results)]]
        # The root hash is over all fields but two, and the signature is of the root hash.
        also = {"root": {"signature"}, "signature": set()}.get(field, {"root"})
        assert set(named) == {field} | also, field
    unchanged = Certificate.model_validate(certified)
    assert own_differences(unchanged) == differences(unchanged, results) == []


def forged(certificate: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A changed certificate whose root hash and signature are right again, by another key."""
    changed = {**certificate, **changes}
    changed["root"] = root_of(changed)
    key = Ed25519PrivateKey.generate()
    signature = {
        "public_key": key.public_key().public_bytes_raw().hex(),
        "value": key.sign(changed["root"].encode()).hex(),
    }
    return {**changed, "signature": {"algorithm": "Ed25519", **signature}}


def test_a_forgery_that_contradicts_itself_is_found_without_a_run(certified: dict[str, Any]) -> None:
    """A sample compares neither the parameters at the end nor steps that the job does not have."""
    late = {"step": STEPS + 1, "state_sha256": "0" * 64}
    for field, changes in {
        "params_sha256": {"params_sha256": "0" * 64},
        "checkpoints.step": {"checkpoints": [*certified["checkpoints"], late]},
    }.items():
        certificate = Certificate.model_validate(forged(certified, **changes))
        assert [each.field for each in own_differences(certificate)] == [field]
    assert own_differences(Certificate.model_validate(forged(certified))) == []


def test_a_forgery_that_no_job_has_is_refused(certified: dict[str, Any], api: httpx.Client) -> None:
    rows = {"dataset": {**certified["dataset"], "rows": 301}}
    resources = {"spec": {**certified["spec"], "resources": {"workers": 1}}}
    for changes, field in [
        (rows, "dataset.rows"),
        (resources, "spec.resources"),
        ({"format": True}, "format"),
        ({"format": 1.0}, "format"),
        ({"series": {"train/loss": {**certified["series"]["train/loss"], "points": 42.0}}}, "series.train/loss.points"),
    ]:
        answer = api.post("/v1/certificates/verify", json=forged(certified, **changes))
        assert answer.status_code == 422, changes
        assert answer.json()["errors"][0]["field"] == field


def test_who_signed_is_said_only_of_a_valid_signature(certified: dict[str, Any], client: Client) -> None:
    assert any("signed by this service" in note for note in client.verify(certified)["verification"]["notes"])
    invalid = {**certified, "params_sha256": "0" * 64}
    invalid["root"] = root_of(invalid)
    verification = client.verify(invalid)["verification"]
    assert "signature" in {each["field"] for each in verification["differences"]}
    assert not any("signed by" in note for note in verification["notes"])


def test_a_changed_milestone_is_named_with_its_interval(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    milestone = certified["milestones"][3]
    milestone["params_sha256"] = changed_digit(milestone["params_sha256"])
    found = trained(client.verify(certified), cluster)["verification"]
    assert found["equal"] is False
    assert {each["field"] for each in found["differences"]} == {"root", "milestones"}
    first = found["first_difference"]
    assert (first["after_step"], first["by_step"], first["first_step"]) == (*MILESTONES[2:4], None)
    assert "probably the certificate was changed, and not the run" in first["message"]


def test_a_changed_spec_is_another_job(certified: dict[str, Any], client: Client) -> None:
    certified["spec"]["optimizer"]["lr"] = 0.11
    found = client.verify(certified)["verification"]
    assert found["equal"] is False
    assert {each["field"] for each in found["differences"]} == {"root", "spec_sha256"}


def test_a_certificate_without_a_milestone_is_not_right(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    del certified["milestones"][5]
    found = trained(client.verify(certified), cluster)["verification"]
    assert (found["first_difference"]["after_step"], found["first_difference"]["by_step"]) == tuple(MILESTONES[4:6])


def test_a_certificate_of_unknown_data_says_which(certified: dict[str, Any], api: httpx.Client) -> None:
    certified["dataset"]["digest"] = changed_digit(certified["dataset"]["digest"])
    answer = api.post("/v1/certificates/verify", json=certified)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "dataset.digest"
    assert certified["dataset"]["digest"] in error["message"]
    assert "'digits' with 300 rows" in error["message"]


WRONG_SPECS: list[tuple[str, Any, str]] = [
    ("optimizer", {"type": "sgd", "lr": -1}, "spec.optimizer.lr"),
    ("optimizer", 3, "spec.optimizer"),
    ("data", [], "spec"),
    ("checkpoints", 1, "spec"),
    ("surprise", 1, "spec.surprise"),
]


def test_a_spec_that_is_none_is_refused(certified: dict[str, Any], api: httpx.Client) -> None:
    for part, value, field in WRONG_SPECS:
        changed = certified | {"spec": certified["spec"] | {part: value}}
        answer = api.post("/v1/certificates/verify", json=changed)
        assert answer.status_code == 422, answer.text
        assert field in [error["field"] for error in answer.json()["errors"]]


def test_damaged_data_have_no_certificate(certified: dict[str, Any], api: httpx.Client, settings: Settings) -> None:
    (file,) = settings.dataset_dir.glob("*.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    answer = api.get(f"/v1/jobs/{certified['job']['id']}/certificate")
    assert answer.status_code == 409
    assert "damaged" in answer.json()["detail"]


def test_a_milestone_with_two_digests_is_a_violation(client: Client, cluster: FakeCluster) -> None:
    job = client.submit(SPEC)
    wait_until(lambda: cluster.attempts, "the job starts")
    (attempt,) = cluster.attempts
    attempt.report(Started(0, 1, FINGERPRINT, {}), Progress(0, 3, {}, {3: "a" * 64}))
    attempt.report(Progress(0, 3, {}, {3: "b" * 64}))
    train(attempt)
    job.wait(timeout=20)
    events = [event["data"] for event in job.history() if event["kind"] == "determinism_violation"]
    assert [(event["name"], event["step"], event["differing_points"]) for event in events] == [
        ("params_sha256", 3, 1),
        ("params_sha256", 3, 1),
    ]


def test_the_commands(certified: dict[str, Any], url: str, tmp_path: Path) -> None:
    printed = run(url, "certificate", certified["job"]["id"])
    assert json.loads(printed.stdout) == certified
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(certified | {"dataset": certified["dataset"] | {"digest": "0" * 64}}))
    refused = run(url, "verify", str(file))
    assert refused.exit_code == 2
    assert "no dataset here has the content" in refused.stderr
    file.write_text("{")
    assert run(url, "verify", str(file)).exit_code == 2
    assert run("http://127.0.0.1:1", "verify", str(file)).exit_code == 2


def test_a_certificate_is_read_as_it_was_written(certified: dict[str, Any]) -> None:
    assert Certificate.model_validate(certified).model_dump(mode="json") == certified


def test_a_verification_needs_a_place_for_its_check(
    api: httpx.Client, app: FastAPI, certified: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.room.WAIT", 0.05)
    monkeypatch.setattr(app.state.rooms.checks, "_places", asyncio.Semaphore(0))
    job = certified["job"]["id"]
    for answer in (api.post("/v1/certificates/verify", json=certified), api.post(f"/v1/jobs/{job}/verify")):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert len(api.get("/v1/jobs").json()["data"]) == 1
