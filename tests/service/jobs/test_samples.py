"""Verifications that replay a sample of a certificate's intervals, on a fake cluster."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.jobs.certificates.document import Certificate, root_of, sha256_of
from service.jobs.certificates.sampling import draw
from service.jobs.certificates.signing import sign, signing_key
from tests.service.fixtures.support import hinge_job, run, wait_until
from workers.record.events import Checkpointed, Ended, Progress, Series, Started
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from service.client import Client, Job
    from service.settings import Settings
    from tests.service.fakes.cluster import FakeAttempt, FakeCluster

pytestmark = pytest.mark.usefixtures("digits", "scheduler")

STEPS, SPACING = 80, 10
SPEC = hinge_job(**{"training.epochs": 40, "checkpoints": {"every_steps": SPACING, "keep": 100}})
ENDS = [*range(SPACING, STEPS + 1, SPACING)]
INTERVALS = [(end - SPACING, end) for end in ENDS]
FINGERPRINT = {"numpy": "2.4"}
REACHED = Ended("paused", "reached_step", "the attempt was to train up to this step")
COMPLETED = Ended("succeeded", "completed")


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


def digest(*what: object) -> str:
    return hashlib.sha256(str(what).encode()).hexdigest()


def replay(
    attempt: FakeAttempt,
    *,
    wrong: str = "",
    wrong_loss: int = STEPS + 1,
    end: Ended | None = None,
    last: int | None = None,
) -> None:
    """Report the steps of an attempt.

    `wrong` is what differs at their end, the state or its parameters; `wrong_loss` the first step with another loss.
    """
    given = attempt.assignment
    first, last = given.reported_step, last or given.until_step or STEPS
    steps = np.arange(first + 1, last + 1)
    series = {"train/loss": Series(steps, 1 / steps + (steps >= wrong_loss), steps)}
    milestones = {step: digest("params", step) for step in milestone_steps(STEPS) if first < step <= last}
    if wrong == "params":
        milestones[max(milestones)] = digest("other")
    attempt.report(Started(first, 1, FINGERPRINT, {}), Progress(last // 2, last, series, milestones))
    for step in [step for step in ENDS if first < step <= last]:
        state = digest("other") if wrong and step == last else digest("state", step)
        attempt.report(Checkpointed(step, digest("params", step), state))
    attempt.report(end or (COMPLETED if last == STEPS else REACHED))


def attempts_of(job: Job, cluster: FakeCluster) -> list[FakeAttempt]:
    return [each for each in cluster.attempts if each.assignment.job == job.id]


def finished(job: Job, cluster: FakeCluster, before: int = 0, **how: dict[str, Any]) -> dict[str, Any]:
    """The verification of a job after all its attempts, of which the test has handled some `before`.

    `how` the others are replayed is by their first step: `at_20`.
    """
    seen = before

    def ended() -> bool:
        nonlocal seen
        for attempt in attempts_of(job, cluster)[seen:]:
            seen += 1
            replay(attempt, **how.get(f"at_{attempt.assignment.reported_step}", {}))
        return job.refresh().ended

    wait_until(ended, f"{job.id} ends")
    verification: dict[str, Any] = job["verification"]
    return verification


def signed(certificate: dict[str, Any], settings: Settings, **changes: Any) -> dict[str, Any]:
    """A certificate with other content, as a service that is not honest would sign it."""
    content = {name: value for name, value in (certificate | changes).items() if value is not None}
    root = root_of(content)
    return content | {"root": root, "signature": sign(root, signing_key(settings.data_dir)).model_dump()}


@pytest.fixture
def certified(client: Client, cluster: FakeCluster, settings: Settings) -> dict[str, Any]:
    """The certificate of a job with eight checkpoints, which are on disk."""
    job = client.submit(SPEC)
    finished(job, cluster)
    for end in ENDS:
        (checkpoints_of(settings, job.id) / f"{end:012d}").mkdir(parents=True)
    return job.certificate()


def checkpoints_of(settings: Settings, job_id: str) -> Path:
    return settings.job_dir(job_id) / "checkpoints"


def chosen(verification: dict[str, Any]) -> list[tuple[int, int]]:
    return [(each["after_step"], each["by_step"]) for each in verification["sample"]["chosen"]]


def expected_choice(seed: int, count: int) -> list[tuple[int, int]]:
    by_rank = sorted(INTERVALS, key=lambda interval: hashlib.sha256(f"{seed} {interval[0]}".encode()).hexdigest())
    return sorted(by_rank[:count])


def test_a_certificate_lists_the_checkpoints_that_are_kept(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    assert certified["checkpoints"] == [{"step": end, "state_sha256": digest("state", end)} for end in ENDS]
    job = client.submit(SPEC | {"checkpoints": {"every_steps": SPACING, "keep": 3}})
    finished(job, cluster)
    assert [each["step"] for each in job.certificate()["checkpoints"]] == ENDS[-3:]
    job.delete()


def test_a_sample_is_replayed_and_equal(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    job = client.verify(certified, workers=3, sample=3, seed=5)
    intervals = expected_choice(5, 3)
    assert chosen(job["verification"]) == intervals
    assert job["verification"]["equal"] is None
    assert [each["equal"] for each in job["verification"]["sample"]["chosen"]] == [None] * 3
    assert job["verification"]["sample"]["replayed_steps"] == 0
    found = finished(job, cluster)
    assert (job.state, found["equal"], found["differences"]) == ("succeeded", True, [])
    sample = found["sample"]
    assert [each["equal"] for each in sample["chosen"]] == [True] * 3
    assert (sample["seed"], sample["intervals"], sample["replayable"]) == (5, 8, 8)
    assert (sample["replayed_steps"], sample["total_steps"], sample["probability"]) == (30, 80, 3 / 8)
    covered = {step for after, by in intervals for step in range(after, by)}
    gaps = [step for each in sample["not_covered"] for step in range(each["after_step"], each["by_step"])]
    assert sorted([*covered, *gaps]) == [*range(80)]
    assert any("the metrics are not compared" in note for note in found["notes"])

    attempts = attempts_of(job, cluster)
    assert [(each.assignment.reported_step, each.assignment.until_step) for each in attempts] == intervals
    for attempt, (after, _) in zip(attempts, intervals, strict=True):
        begin = attempt.assignment.replay
        assert begin is not None
        assert begin.job == certified["job"]["id"]
        directory = checkpoints_of(settings, begin.job).absolute()
        assert begin.checkpoint == (directory / f"{after:012d}" if after else None)
        assert begin.state_sha256 == (digest("state", after) if after else None)
        assert begin.computation_sha256 == cluster.attempts[0].assignment.computation_sha256
        assert attempt.assignment.spec["resources"]["workers"] == 3


def test_the_choice_is_random_uniform_and_can_be_repeated(certified: dict[str, Any], settings: Settings) -> None:
    certificate, directory = Certificate.model_validate(certified), settings.job_dir(certified["job"]["id"])
    samples = [draw(certificate, directory, 2, None) for _ in range(400)]
    assert len({sample.seed for sample in samples}) == 400
    assert all(draw(certificate, directory, 2, sample.seed) == sample for sample in samples[:20])
    for after, _ in INTERVALS:
        count = sum(after in [each.after_step for each in sample.chosen] for sample in samples)
        assert 40 < count < 160, "of about 100; the standard deviation is 9"


def changed_milestone(certified: dict[str, Any], step: int) -> list[dict[str, Any]]:
    changed = {"step": step, "params_sha256": digest("changed")}
    assert step in milestone_steps(STEPS)
    return [changed if each["step"] == step else each for each in certified["milestones"]]


def test_a_changed_milestone_is_named_if_it_is_in_the_sample(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    seed = next(seed for seed in range(100) if (20, 30) in expected_choice(seed, 2))
    changed = signed(certified, settings, milestones=changed_milestone(certified, 25))
    found = finished(client.verify(changed, sample=2, seed=seed), cluster)
    assert found["equal"] is False
    (difference,) = found["differences"]
    assert (difference["field"], difference["after_step"], difference["by_step"]) == ("milestones", 23, 25)
    assert found["first_difference"] == difference
    assert [each["equal"] for each in found["sample"]["chosen"]] == [
        interval != (20, 30) for interval in expected_choice(seed, 2)
    ]


def test_a_changed_milestone_outside_of_the_sample_is_not_covered(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    seed = next(seed for seed in range(100) if (20, 30) not in expected_choice(seed, 2))
    milestones = changed_milestone(certified, 25)
    found = finished(client.verify(signed(certified, settings, milestones=milestones), sample=2, seed=seed), cluster)
    assert found["equal"] is True
    gaps = [(each["after_step"], each["by_step"]) for each in found["sample"]["not_covered"]]
    assert any(after <= 20 and by >= 30 for after, by in gaps)
    # Without a new signature the root of a changed certificate differs in any case.
    found = finished(client.verify(certified | {"milestones": milestones}, sample=2, seed=seed), cluster)
    assert [each["field"] for each in found["differences"]] == ["root"]
    assert found["equal"] is False
    assert [each["equal"] for each in found["sample"]["chosen"]] == [True, True]


@pytest.mark.parametrize(("wrong", "field"), [("state", "checkpoints"), ("params", "milestones")])
def test_a_replay_that_differs_names_its_interval(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, wrong: str, field: str
) -> None:
    found = finished(client.verify(certified, sample=100), cluster, at_40={"wrong": wrong})
    assert found["equal"] is False
    (difference,) = found["differences"]
    assert (difference["field"], difference["by_step"]) == (field, 50)
    assert [each["after_step"] for each in found["sample"]["chosen"] if not each["equal"]] == [40]
    sample = found["sample"]
    assert chosen(found) == INTERVALS, "the others were replayed as well"
    assert (sample["replayed_steps"], sample["not_covered"], sample["probability"]) == (80, [], 1)


def test_each_interval_that_differs_is_named_with_its_step(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    wrong = {f"at_{after}": {"wrong": "params", "wrong_loss": after + 4} for after in (20, 60)}
    found = finished(client.verify(certified, sample=8), cluster, **wrong)
    steps = [(each["after_step"], each["by_step"], each["first_step"]) for each in found["differences"]]
    last = {end: max(step for step in milestone_steps(STEPS) if step <= end) for end in (30, 70)}
    before = {end: max([end - 10, *(step for step in milestone_steps(STEPS) if step < last[end])]) for end in last}
    assert steps == [(before[30], last[30], 24), (before[70], last[70], 64)]


def test_a_changed_checkpoint_is_named_and_not_replayed(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    refused = Ended("failed", "checkpoint_changed", "checkpoint 000000000040 is not the one that was certified")
    job = client.verify(certified, sample=8)

    def at_40() -> FakeAttempt | None:
        for attempt in attempts_of(job, cluster)[len(seen) :]:
            seen.append(attempt)
            if attempt.assignment.reported_step == 40:
                return attempt
            replay(attempt)
        return None

    seen: list[FakeAttempt] = []
    wait_until(at_40, "the interval from step 40 on").report(refused)
    found = job.wait(timeout=20, raise_on_failure=False)["verification"]
    assert (job.state, found["equal"]) == ("failed", False)
    (difference,) = found["differences"]
    assert (difference["field"], difference["after_step"], difference["by_step"]) == ("checkpoints", 40, 50)
    assert "the checkpoint of step 40 was changed, or its digest in the certificate" in difference["message"]
    assert found["sample"]["replayed_steps"] == 40
    assert found["sample"]["not_covered"] == [{"after_step": 40, "by_step": 80}]


def test_only_intervals_whose_checkpoint_is_here_are_chosen(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    directory = checkpoints_of(settings, certified["job"]["id"])
    for step in (10, 20, 30, 40, 50, 60):
        shutil.rmtree(directory / f"{step:012d}")
    found = finished(client.verify(certified, sample=8), cluster)
    assert found["equal"] is True
    assert chosen(found) == [(0, 10), (70, 80)], "the seed gives step 0"
    sample = found["sample"]
    assert (sample["intervals"], sample["replayable"], sample["probability"]) == (8, 2, 1)
    assert sample["not_covered"] == [{"after_step": 10, "by_step": 70}]


def test_a_checkpoint_that_vanishes_is_an_error_and_no_difference(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    gone = Ended("failed", "storage_error", "checkpoint 000000000040 of job_1 is no longer there")
    job = client.verify(certified, sample=8)
    wait_until(lambda: attempts_of(job, cluster), "the job starts")
    attempts_of(job, cluster)[0].report(gone)
    found = job.wait(timeout=20, raise_on_failure=False)["verification"]
    assert (job.state, found["equal"], found["differences"]) == ("failed", None, [])
    assert job.reason == "storage_error: checkpoint 000000000040 of job_1 is no longer there"


def test_a_certificate_without_checkpoints_has_one_interval(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    old = signed(certified, settings, checkpoints=None)
    assert "checkpoints" not in old
    found = finished(client.verify(old, sample=3), cluster)
    assert (found["equal"], found["differences"], chosen(found)) == (True, [], [(0, 80)])
    whole = finished(client.verify(old), cluster)
    assert (whole["equal"], whole["sample"]) == (True, None)


def test_a_job_that_replays_intervals_has_no_certificate(
    certified: dict[str, Any], api: httpx.Client, client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    # Its only interval ends with a milestone, so that no milestone up to there is missing.
    assert 40 in milestone_steps(STEPS)
    checkpoints = [each for each in certified["checkpoints"] if each["step"] == 40]
    shutil.rmtree(checkpoints_of(settings, certified["job"]["id"]))
    job = client.verify(signed(certified, settings, checkpoints=checkpoints), sample=1)
    assert finished(job, cluster)["equal"] is True
    answer = api.get(f"/v1/jobs/{job.id}/certificate")
    assert (answer.status_code, job.progress["step"]) == (409, 40)
    assert "it has replayed only some intervals of another job" in answer.json()["detail"]


def test_training_must_end_where_the_certificate_says(
    certified: dict[str, Any], client: Client, cluster: FakeCluster, settings: Settings
) -> None:
    early = finished(client.verify(certified, sample=8), cluster, at_40={"last": 46, "end": COMPLETED})
    (difference,) = early["differences"]
    assert "training ends after step 46, and that of the certificate after step 80" in difference["message"]
    assert (early["equal"], early["sample"]["replayed_steps"]) == (False, 50)
    assert early["sample"]["not_covered"] == [{"after_step": 50, "by_step": 80}]

    parts = {name: [each for each in certified[name] if each["step"] <= 60] for name in ("milestones", "checkpoints")}
    cut = signed(certified, settings, **parts, params_sha256=parts["milestones"][-1]["params_sha256"])
    found = finished(client.verify(cut, sample=8), cluster)
    (difference,) = found["differences"]
    assert "training does not end after step 60" in difference["message"]
    assert (difference["after_step"], difference["by_step"]) == (50, 60)


def test_a_lost_attempt_and_a_pause_repeat_their_interval(
    certified: dict[str, Any], client: Client, cluster: FakeCluster
) -> None:
    job = client.verify(certified, sample=8)
    wait_until(lambda: attempts_of(job, cluster), "the job starts")
    attempts_of(job, cluster)[0].report(Started(0, 1, FINGERPRINT, {}), Progress(2, 5, {}, {}))
    wait_until(lambda: job.refresh().progress["step"] == 5, "progress")
    attempts_of(job, cluster)[0].lose()
    wait_until(lambda: len(attempts_of(job, cluster)) == 2, "another attempt")
    attempts_of(job, cluster)[1].report(Started(0, 1, FINGERPRINT, {}))
    wait_until(lambda: job.refresh().state == "running", "training")
    job.pause()
    attempts_of(job, cluster)[1].report(Ended("paused", "paused_by_user"))
    wait_until(lambda: job.refresh().state == "paused", "the pause")
    job.resume()
    wait_until(lambda: len(attempts_of(job, cluster)) == 3, "a third attempt")
    assert [each.assignment.until_step for each in attempts_of(job, cluster)] == [10] * 3
    assert finished(job, cluster, before=2)["equal"] is True
    assert len(attempts_of(job, cluster)) == 8 + 2


def test_a_job_is_sampled_by_its_id(
    certified: dict[str, Any], api: httpx.Client, client: Client, cluster: FakeCluster
) -> None:
    path = f"/v1/jobs/{certified['job']['id']}/verify"
    key = {"Idempotency-Key": "k"}
    answer = api.post(f"{path}?sample=2&seed=9", headers=key)
    assert answer.status_code == 201, answer.text
    assert chosen(answer.json()["verification"]) == expected_choice(9, 2)
    assert api.post(f"{path}?sample=2&seed=9", headers=key).json()["id"] == answer.json()["id"]
    other = api.post(f"{path}?sample=3&seed=9", headers=key)
    assert other.status_code == 422, "another request with the same key"
    assert finished(client.job(answer.json()["id"]), cluster)["equal"] is True
    for query in ("sample=0", "sample=1001", "sample=x", "sample=1&seed=-1", f"sample=1&seed={2**53}"):
        assert api.post(f"{path}?{query}").status_code == 422


def test_a_certificate_that_cannot_be_sampled_says_why(
    certified: dict[str, Any], api: httpx.Client, client: Client
) -> None:
    empty = certified | {"milestones": [], "checkpoints": []}
    answer = api.post("/v1/certificates/verify?sample=1", json=empty)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "milestones")
    spec = {name: part for name, part in certified["spec"].items() if name != "regularization"}
    answer = api.post("/v1/certificates/verify?sample=1", json=certified | {"spec": spec})
    assert answer.status_code == 422
    assert "must be a resolved spec, but has no 'regularization'" in answer.json()["errors"][0]["message"]
    backwards = certified | {"checkpoints": certified["checkpoints"][::-1]}
    found = client.verify(backwards, sample=1)["verification"]
    assert {each["field"] for each in found["differences"]} == {"root", "checkpoints"}


@contextmanager
def replaying(cluster: FakeCluster, **how: dict[str, Any]) -> Iterator[None]:
    """Replay every attempt that starts, in a thread."""
    before, stop = len(cluster.attempts), threading.Event()

    def work() -> None:
        seen = before
        while not stop.wait(0.01):
            for attempt in cluster.attempts[seen:]:
                seen += 1
                replay(attempt, **how.get(f"at_{attempt.assignment.reported_step}", {}))

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_the_command_says_what_is_covered(
    certified: dict[str, Any], url: str, cluster: FakeCluster, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(certified))
    shutil.rmtree(checkpoints_of(settings, certified["job"]["id"]) / "000000000010")
    command = ["verify", str(file), "--sample", "7", "--seed", "5"]
    with replaying(cluster):
        done = run(url, *command)
    assert done.exit_code == 0, done.output
    steps = "steps 0 to 10, 20 to 30, 30 to 40, 40 to 50, 50 to 60, 60 to 70, 70 to 80"
    assert f"replays 7 of 8 intervals ({steps}; --seed 5 chooses them again) of job {certified['job']['id']}" in (
        done.stdout
    )
    assert done.stdout.splitlines()[-5:] == [
        "replayed 70 of 80 steps (87.5%)",
        "not covered: steps 10 to 20",
        "a change in one of the 7 intervals that can be replayed here is found with probability 100.0%",
        "no change is found in the other 1: their first checkpoints are not at this service",
        "equal: the steps that were replayed",
    ]
    with replaying(cluster, at_40={"wrong": "state"}):
        done = run(url, *command)
    assert done.exit_code == 1, done.output
    assert "the state after step 50 differs, although that after step 40 is the certified one" in done.stderr
    assert "replayed 70 of 80 steps" in done.stdout, "the differing interval does not end the verification"
    refused = run(url, "verify", str(file), "--seed", "5")
    assert refused.exit_code == 2
    assert "seed: chooses a sample: give sample, too" in refused.stderr


@pytest.mark.parametrize("level", ["x86-64-v4", "armv8-a"])
def test_a_level_that_no_node_has_cannot_be_verified(
    certified: dict[str, Any], url: str, settings: Settings, tmp_path: Path, level: str
) -> None:
    spec = certified["spec"] | {"training": certified["spec"]["training"] | {"arithmetic": level}}
    changed = signed(certified, settings, spec=spec, spec_sha256=sha256_of(spec), arithmetic=level)
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(changed))
    done = run(url, "verify", str(file))
    assert done.exit_code == 2, done.output
    reason = f"waiting_for_arithmetic: needs a node with {level}, and the nodes have x86-64-v2, x86-64-v3"
    assert f"{reason}: it cannot be verified" in done.stderr
