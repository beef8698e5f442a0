from __future__ import annotations

import json
import math
import statistics
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidError
from service.jobs.repository import jobs_in, move, record_kept, record_result, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import State
from service.store.models import Job, MlflowRun, Sweep
from service.sweeps.comparison import compare
from service.sweeps.schemas import LOSSES_SWEEP, ComparisonView
from tests.service.fixtures.points import record_points

if TYPE_CHECKING:
    import httpx

    from service.store import Database
    from workers.job.spec import ValidationMetric

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
SWEEP = Sweep(id="sweep_1", spec={})


def member(
    number: int, loss: str = "hinge", state: State = State.SUCCEEDED, seed: int = 0, lr: float = 0.1, **metrics: Any
) -> Job:
    """A member. `accuracy=0.9` sets its val/accuracy, the latest one and that of the kept parameters."""
    names = {f"val/{name}": value for name, value in metrics.items()}
    return Job(
        id=f"job_{number}",
        name=f"losses-{number}",
        spec={"loss": {"type": loss}},
        overrides={"optimizer.lr": lr, "training.seed": seed, "loss.type": loss},
        state=state,
        reason=None,
        latest_metrics={name: [20, value] for name, value in names.items()},
        validation_metrics=["val/accuracy", "val/loss", "val/hinge"],
        kept={"step": 20, "epoch": 1, "metrics": names},
        step=20,
        started_at=STARTED,
        finished_at=STARTED + timedelta(seconds=3) if state.terminal else None,
    )


def compared(*jobs: Job, metric: ValidationMetric | None = None) -> ComparisonView:
    return compare(SWEEP, jobs, {}, metric)


def test_members_that_differ_only_in_the_seed_are_a_group() -> None:
    found = compared(
        member(0, lr=0.1, seed=0, accuracy=0.5, loss_=1.0),
        member(1, lr=0.1, seed=1, accuracy=1.0),
        member(2, lr=0.01, seed=0, accuracy=0.75),
    )
    assert [group.jobs for group in found.groups] == [["job_0", "job_1"], ["job_2"]]
    first, second = found.groups
    assert first.overrides == {"optimizer.lr": 0.1, "loss.type": "hinge"}
    accuracy = first.metrics["val/accuracy"]
    assert (accuracy.mean, accuracy.std, accuracy.n) == (0.75, pytest.approx(math.sqrt(0.125)), 2)
    assert (first.metrics["val/loss_"].n, first.metrics["val/loss_"].std) == (1, None)
    assert (second.metrics["val/accuracy"].mean, second.metrics["val/accuracy"].std) == (0.75, None)
    assert found.best == 0, "the first of equal groups"


def test_only_succeeded_members_count() -> None:
    found = compared(
        member(0, seed=0, accuracy=0.5),
        member(1, seed=1, accuracy=0.9, state=State.RUNNING),
        member(2, seed=2, accuracy=0.9, state=State.CANCELLED),
        member(3, loss="softmax", accuracy=0.8, state=State.FAILED),
    )
    hinge, softmax = found.groups
    assert (hinge.n, hinge.left_out, hinge.metrics["val/accuracy"].mean) == (1, 2, 0.5)
    assert (softmax.n, softmax.left_out, softmax.metrics) == (0, 1, {})
    assert (found.left_out, found.best, found.best_per_loss) == (3, 0, {"hinge": 0})
    assert [each.seconds for each in found.members] == [3, None, 3, 3]


def test_values_that_are_not_finite_do_not_count() -> None:
    found = compared(member(0, seed=0, accuracy=None), member(1, seed=1, accuracy=0.5))
    accuracy = found.groups[0].metrics["val/accuracy"]
    assert (accuracy.mean, accuracy.std, accuracy.n) == (0.5, None, 1)
    nothing = compared(member(0, accuracy=None))
    assert (nothing.groups[0].metrics["val/accuracy"].mean, nothing.best, nothing.best_per_loss) == (None, None, {})


def test_the_best_of_each_loss() -> None:
    jobs = [
        member(0, loss="hinge", lr=0.1, accuracy=0.5, hinge=3.0),
        member(1, loss="hinge", lr=0.2, accuracy=0.7, hinge=4.0),
        member(2, loss="softmax", lr=0.1, accuracy=0.9, hinge=6.0),
        member(3, loss="softmax", lr=0.2, accuracy=0.8, hinge=5.0),
    ]
    found = compared(*jobs)
    assert (found.best, found.best_per_loss) == (2, {"hinge": 1, "softmax": 2})
    found = compared(*jobs, metric="val/hinge")
    assert (found.metric, found.best, found.best_per_loss) == ("val/hinge", 0, {"hinge": 0, "softmax": 3})


def test_a_sweep_whose_jobs_were_deleted() -> None:
    found = compared()
    assert (found.members, found.groups, found.best, found.best_per_loss) == ([], [], None, {})


def test_groups_are_ranked_by_the_parameters_that_are_kept() -> None:
    """The group whose last value is best had a worse one with the parameters that its model has."""
    last, first = member(0, lr=0.1, accuracy=0.9), member(1, lr=0.2, accuracy=0.8)
    assert first.kept is not None
    first.kept["metrics"] = {"val/accuracy": 0.95}
    last.kept = {"step": 7, "epoch": 1, "metrics": {"val/accuracy": 0.85}}
    found = compared(last, first)
    assert (found.best, found.best_per_loss) == (1, {"hinge": 1})
    of_groups = [{name: value.mean for name, value in group.metrics.items()} for group in found.groups]
    assert of_groups == [
        {"val/accuracy": 0.9, "kept/val/accuracy": 0.85},
        {"val/accuracy": 0.8, "kept/val/accuracy": 0.95},
    ]
    assert [each.metrics["kept/val/accuracy"] for each in found.members] == [0.85, 0.95]


def test_groups_can_be_ranked_by_what_all_members_have() -> None:
    few, many = member(0, accuracy=0.5), member(1, lr=0.2, accuracy=0.5)
    many.validation_metrics = ["val/accuracy", "val/top_5_accuracy", "val/loss"]
    assert compared(few, many).metrics == ["val/accuracy", "val/loss"]
    with pytest.raises(InvalidError, match=r"'val/top_5_accuracy', which not all members have: must be one of val/acc"):
        compared(few, many, metric="val/top_5_accuracy")


def regression(number: int, **metrics: float | None) -> Job:
    job = member(number, "huber", lr=0.1 * number, **metrics)
    job.validation_metrics = ["val/r2", "val/loss", "val/mean_absolute_error", "val/root_mean_squared_error"]
    return job


def test_regressions_without_r2_are_ranked_by_their_root_mean_squared_error() -> None:
    """R² of a single validation row, or of equal targets, is undefined; the squared errors have the same order."""
    values: list[tuple[float | None, float, float]] = [(None, 0.5, 4.0), (None, 0.6, 3.0), (None, 0.1, 5.0)]
    names = "r2", "mean_absolute_error", "root_mean_squared_error"
    jobs = [regression(number, **dict(zip(names, each, strict=True))) for number, each in enumerate(values)]
    found = compared(*jobs)
    assert (found.metric, found.best, found.best_per_loss) == ("val/root_mean_squared_error", 1, {"huber": 1})
    asked = compared(*jobs, metric="val/r2")
    assert (asked.metric, asked.best) == ("val/r2", None), "a metric that was asked for is not replaced"
    assert compared(*jobs, regression(3, r2=0.25)).metric == "val/r2"
    running = regression(4, r2=None)
    running.state = State.RUNNING
    assert compared(running).metric == "val/r2", "it may yet have a value"
    failed = regression(5, r2=None)
    failed.state, failed.kept = State.FAILED, None
    assert compared(failed).metric == "val/r2"


@given(st.lists(st.floats(0, allow_nan=False, allow_infinity=False), min_size=2, max_size=6), st.randoms())
def test_means_and_deviations(values: list[float], random: Any) -> None:
    jobs = [member(number, seed=number, loss_=value) for number, value in enumerate(values)]
    loss = compared(*jobs).groups[0].metrics["val/loss_"]
    assert (loss.mean, loss.std) == (statistics.mean(values), statistics.stdev(values))
    random.shuffle(jobs)
    assert compared(*jobs).groups[0].metrics["val/loss_"] == loss
    json.dumps(loss.model_dump(), allow_nan=False)


@pytest.mark.usefixtures("digits")
def test_the_comparison_over_rest(api: httpx.Client, database: Database) -> None:
    made = api.post("/v1/sweeps", json=LOSSES_SWEEP).json()
    alone = api.post("/v1/jobs", json={**LOSSES_SWEEP["base"], "name": "alone"}).json()
    path = f"/v1/sweeps/{made['id']}/comparison"
    before = api.get(path).json()
    assert (len(before["members"]), len(before["groups"]), before["left_out"], before["best"]) == (12, 4, 12, None)
    with database.writing() as session:
        for number, job in enumerate(jobs_in(session, [State.QUEUED])[:3]):
            attempt = start_attempt(session, job.id, "supervisor")
            move(session, job.id, from_=State.QUEUED, to=State.STARTING)
            move(session, job.id, from_=State.STARTING, to=State.RUNNING)
            values = {"val/accuracy": [0.5, 0.75, math.nan], "val/loss": [2.0, math.inf, 3.0], "train/loss": [0.1] * 3}
            points = [
                Point(name, step, value + number / 4, 1)
                for name, series in values.items()
                for step, value in enumerate(series)
            ]
            record_points(session, job.id, attempt, points)
            record_result(session, job.id, attempt, params_sha256="ab" * 32)
            kept = {"val/accuracy": 0.75 + number / 4, "val/loss": 2 + number / 4}
            record_kept(session, job.id, attempt, {"step": 1, "epoch": 1, "metrics": kept}, {})
            session.add(MlflowRun(job_id=job.id, experiment_id="1", run_id=f"r{number}", status="RUNNING"))
            move(session, job.id, from_=State.RUNNING, to=State.SUCCEEDED)
    answer = api.get(path, params={"metric": "val/loss"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [job["best"] for job in found["members"][:4]] == [
        {"val/accuracy": 0.75, "val/loss": 2.0},
        {"val/accuracy": 1.0, "val/loss": 2.25},
        {"val/accuracy": 1.25, "val/loss": 2.5},
        {},
    ]
    assert found["members"][0]["metrics"] == {
        "train/loss": 0.1, "val/accuracy": None, "val/loss": 3.0, "kept/val/accuracy": 0.75, "kept/val/loss": 2.0,
    }  # fmt: skip
    assert found["members"][0]["params_sha256"] == "ab" * 32
    assert found["members"][1]["mlflow"]["url"].startswith("http://mlflow.example/#/experiments/1/runs/r1")
    assert found["groups"][0]["metrics"]["val/loss"] == {"mean": 3.25, "std": 0.25, "n": 3}
    assert found["groups"][0]["metrics"]["kept/val/loss"] == {"mean": 2.25, "std": 0.25, "n": 3}
    assert found["groups"][0]["overrides"] == {"loss": {"type": "hinge"}, "optimizer.lr": 0.01}
    assert (found["left_out"], found["best"], found["best_per_loss"]) == (9, 0, {"hinge": 0})
    assert alone["id"] not in json.dumps(found)


@pytest.mark.usefixtures("digits")
def test_invalid_comparisons(api: httpx.Client) -> None:
    assert api.get("/v1/sweeps/sweep_0/comparison").status_code == 404
    made = api.post("/v1/sweeps", json=LOSSES_SWEEP).json()
    answer = api.get(f"/v1/sweeps/{made['id']}/comparison", params={"metric": "val/acuracy"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "metric")
    assert "is 'val/acuracy', which is no metric of validation rows: must be one of val/accuracy, " in answer.text


@pytest.mark.usefixtures("digits")
def test_jobs_have_the_id_of_their_sweep(api: httpx.Client) -> None:
    alone = api.post("/v1/jobs", json={**LOSSES_SWEEP["base"], "name": "alone"}).json()
    assert alone["sweep"] is None
    first, second = [api.post("/v1/sweeps", json=LOSSES_SWEEP | {"seeds": [seed]}).json()["id"] for seed in (7, 8)]
    page = api.get("/v1/jobs", params={"sweep": first, "limit": 3, "state": "queued"}).json()
    assert page["has_more"]
    rest = api.get("/v1/jobs", params={"sweep": first, "starting_after": page["data"][-1]["id"]}).json()
    jobs = [*page["data"], *rest["data"]]
    assert [job["name"] for job in jobs] == [f"losses-{number}" for number in (3, 2, 1, 0)]
    overrides = {"loss": {"type": "softmax"}, "optimizer.lr": 0.1, "training.seed": 7}
    assert jobs[0]["sweep"] == {"id": first, "overrides": overrides}
    assert api.get("/v1/jobs", params={"sweep": second}).json()["data"][0]["sweep"]["id"] == second
    assert api.get("/v1/jobs", params={"sweep": "sweep_0"}).json()["data"] == []
