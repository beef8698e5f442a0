from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from service.jobs.repository import jobs_in
from service.jobs.states import State
from service.store.models import Job
from service.sweeps.repository import state_of
from service.sweeps.schemas import LOSSES_SWEEP, SweepState
from tests.service.fixtures.support import train

if TYPE_CHECKING:
    import httpx

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


def sweep(**changes: Any) -> dict[str, Any]:
    return {**LOSSES_SWEEP, **changes}


def test_a_sweep_creates_its_jobs(api: httpx.Client, database: Database, notifications: list[str]) -> None:
    answer = api.post("/v1/sweeps", json=sweep())
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["state"], made["jobs"], made["parallel"]) == ("queued", {"queued": 12}, 2)
    assert answer.headers["Location"] == f"/v1/sweeps/{made['id']}"
    assert api.get(answer.headers["Location"]).json() == made
    assert notifications == ["change"]
    with database.reading() as session:
        members = jobs_in(session, [State.QUEUED])
        assert [member.name for member in members] == [f"losses-{number}" for number in range(12)]
        assert {member.experiment for member in members} == {"hinge-vs-softmax"}
        expected = itertools.product(["hinge", "softmax"], [0.01, 0.1], [0, 1, 2])
        for member, (loss, lr, seed) in zip(members, expected, strict=True):
            spec = member.spec
            assert (spec["loss"]["type"], spec["optimizer"]["lr"], spec["training"]["seed"]) == (loss, lr, seed)
            assert member.overrides == {"loss": {"type": loss}, "optimizer.lr": lr, "training.seed": seed}
            assert member.sweep_id == made["id"]


def test_a_job_without_a_sweep(api: httpx.Client, database: Database) -> None:
    job_id = api.post("/v1/jobs", json={**LOSSES_SWEEP["base"], "name": "alone"}).json()["id"]
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
        assert (job.sweep_id, job.overrides) == (None, None)


def test_no_jobs_are_created_if_one_member_is_invalid(api: httpx.Client) -> None:
    over = {"grid": {"optimizer.lr": [0.1, -1], "loss.type": ["hinge", "hinje"]}}
    answer = api.post("/v1/sweeps", json=sweep(over=over, seeds=[]))
    assert answer.status_code == 422
    errors = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert errors.keys() == {"over.grid.optimizer.lr.1", "over.grid.loss.type.1"}
    assert "(member 2: optimizer.lr = -1, loss.type = 'hinge')" in errors["over.grid.optimizer.lr.1"]
    assert api.get("/v1/jobs").json()["data"] == api.get("/v1/sweeps").json()["data"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"over": {"grid": {"training.epochs": list(range(1, 1001))}}}, "makes 3000 jobs; at most 1000"),
        ({"over": {"grid": {"training.seed": [1]}}}, "sets training.seed, as over does"),
        ({"over": {"grid": {"name": ["a"]}}}, "name is set by the sweep itself"),
        ({"over": {"grid": {"model.layers.7.units": [1]}}}, "names entry '7' of a list of 3"),
        ({"over": {"grid": {"data.dataset": ["none"]}}}, "'none' is not a known dataset"),
        ({"over": {"random": {"samples": 1, "fields": {"a.b": {"choice": [1]}}}}}, "did you mean 'choices'?"),
        ({"over": {}}, "must have exactly one of grid, list, random, not none"),
        ({"seeds": [1, 1]}, "seeds: has a duplicate seed"),
        ({"base": {}}, "is required"),
    ],
)
def test_an_invalid_sweep_is_rejected(api: httpx.Client, changes: dict[str, Any], words: str) -> None:
    answer = api.post("/v1/sweeps", json=sweep(**changes))
    assert answer.status_code == 422
    assert words in answer.text, answer.text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"over": {"grid": {"loss": [{"type": "hinge"}, {"type": "hinge", "margin": -1}]}}}, "over.grid.loss.1.margin"),
        ({"over": {"grid": {"loss.margin": [1.0, "x"]}}}, "over.grid.loss.margin.1"),
        ({"over": {"grid": {"a.b": [1]}}}, "over.grid.a.b.0"),
        ({"over": {"grid": {"model.layers.7.units": [1]}}}, "over.grid.model.layers.7.units.0"),
        ({"over": {"list": [{}, {"training.epochs": 0}]}}, "over.list.1.training.epochs"),
        ({"over": {"list": [{"data.dataset": "none"}]}}, "over.list.0.data.dataset"),
        ({"over": {"random": {"samples": 2, "fields": {"optimizer.lr": {"choices": [-1]}}}}},
        "over.random.fields.optimizer.lr"),
        ({"over": {"grid": {"training.shards": [4]}}, "base": {**LOSSES_SWEEP["base"], "data": {"dataset": "none"}}},
         "base.data.dataset"),
        ({"over": {"grid": {"name": ["a"]}}}, "over"),
        ({"base": {**LOSSES_SWEEP["base"], "name": "a"}}, "base"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"over": {"grid": {"training.seed": [1]}}}, "seeds"),
        ({"over": {"grid": {"training.epochs": list(range(1, 1001))}}}, "over"),
    ],
)  # fmt: skip
def test_the_field_of_an_error_is_that_of_the_request(api: httpx.Client, changes: dict[str, Any], field: str) -> None:
    answer = api.post("/v1/sweeps", json=sweep(**changes))
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {field}


def test_an_idempotency_key_creates_one_sweep(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.post("/v1/sweeps", json=sweep(), headers=headers)
    again = api.post("/v1/sweeps", json=sweep(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other = api.post("/v1/sweeps", json=sweep(seeds=[5]), headers=headers)
    assert other.status_code == 422
    assert [each["id"] for each in api.get("/v1/sweeps").json()["data"]] == [first.json()["id"]]


def test_pages_are_newest_first(api: httpx.Client) -> None:
    ids = [api.post("/v1/sweeps", json=sweep(over=None, seeds=[seed])).json()["id"] for seed in range(3)]
    page = api.get("/v1/sweeps", params={"limit": 2}).json()
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = api.get("/v1/sweeps", params={"starting_after": ids[1]}).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (ids[:1], False)


def test_cancelling_a_sweep_cancels_its_jobs(api: httpx.Client, database: Database, notifications: list[str]) -> None:
    made = api.post("/v1/sweeps", json=sweep(over=None)).json()
    with database.reading() as session:
        done, running, _ = [job.id for job in jobs_in(session, [State.QUEUED])]
    train(database, done, State.SUCCEEDED)
    train(database, running, None)
    path = f"/v1/sweeps/{made['id']}"
    assert api.get(path).json()["state"] == "running"
    answer = api.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["jobs"]) == (202, {"cancelled": 1, "cancelling": 1, "succeeded": 1})
    assert notifications == ["change"] * 2
    assert api.post(f"{path}/cancel").status_code == 200
    assert notifications == ["change"] * 2


def test_an_unknown_sweep_is_not_found(api: httpx.Client) -> None:
    for answer in (api.get("/v1/sweeps/sweep_0"), api.post("/v1/sweeps/sweep_0/cancel")):
        assert answer.status_code == 404
        assert "There is no sweep 'sweep_0'" in answer.text


@pytest.mark.parametrize(
    ("jobs", "state"),
    [
        ({}, SweepState.EMPTY),
        ({"queued": 2}, SweepState.QUEUED),
        ({"queued": 1, "paused": 1}, SweepState.QUEUED),
        ({"queued": 1, "succeeded": 1}, SweepState.RUNNING),
        ({"starting": 1, "failed": 1}, SweepState.RUNNING),
        ({"paused": 1, "succeeded": 1}, SweepState.PAUSED),
        ({"succeeded": 3}, SweepState.SUCCEEDED),
        ({"succeeded": 3, "cancelled": 1}, SweepState.CANCELLED),
        ({"succeeded": 3, "cancelled": 1, "failed": 1}, SweepState.FAILED),
        ({"succeeded": 1, "stopped": 3}, SweepState.SUCCEEDED),
        ({"queued": 1, "stopped": 1}, SweepState.RUNNING),
        ({"cancelled": 1, "stopped": 1}, SweepState.CANCELLED),
    ],
)
def test_the_state_of_a_sweep_follows_from_its_jobs(jobs: dict[str, int], state: SweepState) -> None:
    assert state_of(jobs) is state


HALVING = {"type": "halving", "metric": "val/accuracy"}
MEDIAN = {"type": "median", "metric": "val/loss"}


def test_a_sweep_shows_its_stopping_rule(api: httpx.Client) -> None:
    made = api.post("/v1/sweeps", json=sweep(stopping=HALVING)).json()
    assert made["spec"]["stopping"] == {**HALVING, "factor": 3, "first": 1}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (
            {"stopping": HALVING | {"first": 20}},
            "base.training.epochs",
            "must be more than 20, not 20: stopping begins after epoch 20 (member 0: loss = ",
        ),
        (
            {"stopping": MEDIAN | {"members": 2}, "over": {"list": [{"training.epochs": 5}]}},
            "over.list.0.training.epochs",
            "must be more than 5, not 5: stopping begins after epoch 5",
        ),
        (
            {"stopping": HALVING, "over": {"list": [{"data.validation": 0.0}]}},
            "over.list.0.data.validation",
            "must leave rows: stopping compares val/accuracy, which is of the validation rows",
        ),
        (
            {"stopping": MEDIAN, "over": None},
            "stopping.members",
            "must be at most 2, not 3: each of the 3 members has 2 others to be compared with",
        ),
        ({"stopping": MEDIAN | {"members": 12}}, "stopping.members", "must be at most 11, not 12"),
        (
            {"stopping": MEDIAN | {"members": 1}, "over": None, "seeds": []},
            "stopping",
            "compares members with each other: must be left out of a sweep with one member",
        ),
        ({"stopping": HALVING, "over": None, "seeds": [7]}, "stopping", "compares members with each other"),
        ({"stopping": HALVING | {"factor": 1}}, "stopping.factor", "must be at least 2, not 1"),
        ({"stopping": HALVING | {"metric": "train/loss"}}, "stopping.metric", "must be one of val/loss, "),
        (
            {"stopping": HALVING | {"metric": "val/r2"}},
            "stopping.metric",
            "is 'val/r2', which a classification job with 10 outputs does not have: must be one of val/",
        ),
        ({"stopping": {"metric": "val/loss"}}, "stopping.type", "is required"),
        ({"stopping": HALVING | {"type": "quartering"}}, "stopping", "'quartering'"),
    ],
)
def test_a_rule_that_cannot_take_effect_is_rejected(
    api: httpx.Client, changes: dict[str, Any], field: str, words: str
) -> None:
    answer = api.post("/v1/sweeps", json=sweep(**changes))
    assert answer.status_code == 422
    errors = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert errors.keys() == {field}
    assert words in errors[field]


def test_members_that_no_metric_compares_are_rejected(api: httpx.Client, houses: dict[str, Any]) -> None:
    """A member for each loss and dataset that fit each other: classifications, and a regression."""
    layers = [{"type": "linear", "units": 1}]
    members = [
        {"data.dataset": "digits", "loss": {"type": "hinge"}},
        {"data.dataset": houses["name"], "loss": {"type": "huber"}, "model.layers": layers},
    ]
    answer = api.post("/v1/sweeps", json=sweep(over={"list": members}))
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, ["over"])
    assert answer.json()["errors"][0]["message"] == (
        "makes jobs for classification (ranked by val/accuracy) and regression (ranked by val/r2), which cannot be "
        "compared: must make jobs that are ranked by one metric"
    )
    assert api.get("/v1/jobs").json()["data"] == []
    for member in members:
        assert api.post("/v1/sweeps", json=sweep(over={"list": [member]})).status_code == 201


def test_the_members_task_decides_the_metric(api: httpx.Client, houses: dict[str, Any]) -> None:
    regression = {"data.dataset": houses["name"], "model.layers": [{"type": "linear", "units": 1}]}
    members = [regression | {"loss": {"type": loss}} for loss in ("squared_error", "absolute_error")]
    made = api.post("/v1/sweeps", json=sweep(over={"list": members})).json()
    found = api.get(f"/v1/sweeps/{made['id']}/comparison").json()
    assert (found["metric"], found["metrics"][0]) == ("val/r2", "val/r2")
    assert {"val/loss", "val/mean_absolute_error", "val/max_error"} < {*found["metrics"]}
    assert "val/accuracy" not in found["metrics"]
    job = api.get("/v1/jobs", params={"sweep": made["id"]}).json()["data"][0]
    assert (job["task"], job["ranked_by"]) == ("regression", "val/r2")
    by_error = api.get(f"/v1/sweeps/{made['id']}/comparison", params={"metric": "val/max_error"}).json()
    assert by_error["metric"] == "val/max_error"
    none = "is no metric of validation rows"  # all members have train/loss, but it cannot rank them
    for wrong, why, near in (
        ("val/accuracy", "not all members have", ""),
        ("val/acuracy", none, ""),
        ("train/loss", none, ""),
        ("kept/val/loss", none, ""),
        ("val/rmse", none, "; did you mean 'val/root_mean_squared_error'?"),
    ):
        answer = api.get(f"/v1/sweeps/{made['id']}/comparison", params={"metric": wrong})
        (error,) = answer.json()["errors"]
        names = ", ".join(found["metrics"])
        assert (answer.status_code, error["field"]) == (422, "metric")
        assert error["message"] == f"is {wrong!r}, which {why}: must be one of {names}{near}"


def test_the_stopping_rule_decides_the_metric(api: httpx.Client) -> None:
    made = api.post("/v1/sweeps", json=sweep(stopping=HALVING | {"metric": "val/f1"})).json()
    assert api.get(f"/v1/sweeps/{made['id']}/comparison").json()["metric"] == "val/f1"


def test_without_validation_rows_there_is_nothing_to_rank_by(api: httpx.Client) -> None:
    made = api.post("/v1/sweeps", json=sweep(over={"list": [{"data.validation": 0.0}]})).json()
    path = f"/v1/sweeps/{made['id']}/comparison"
    assert [api.get(path).json()[name] for name in ("metrics", "best")] == [[], None]
    answer = api.get(path, params={"metric": "val/accuracy"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "metric")
    assert "no validation rows" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"over": {"grid": {"loss.margin": [1.0, 5.0], "loss": [{"type": "hinge"}]}}},
            "loss.margin is a part of loss, which is set as well: only one of them can be",
        ),
        (
            {"over": {"list": [{"loss": {"type": "hinge"}}, {"loss.margin": 5.0, "loss": {"type": "hinge"}}]}},
            "loss.margin is a part of loss",
        ),
        ({"over": {"grid": {"optimizer.lr": [0.1, 0.2, 0.1]}}}, "makes members 0 and 6 equal"),
        ({"over": {"grid": {"optimizer.lr": [1, 1.0]}}}, "makes members 0 and 3 equal"),
        ({"over": {"list": [{}, {"loss.type": "hinge"}, {"loss": {"type": "hinge", "margin": 1}}]}},
         "makes members 3 and 6 equal"),
        ({"over": {"list": [{}, {"training.shards": 4}]}}, "makes members 0 and 3 equal"),
    ],
)  # fmt: skip
def test_members_that_would_be_equal_are_rejected(api: httpx.Client, changes: dict[str, Any], words: str) -> None:
    base = LOSSES_SWEEP["base"] | {"loss": {"type": "softmax"}}
    answer = api.post("/v1/sweeps", json=sweep(base=base, **changes))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "over"
    assert words in error["message"], error


def test_samples_may_be_equal(api: httpx.Client) -> None:
    """A random search draws each sample independently."""
    over = {"random": {"samples": 3, "fields": {"optimizer.lr": {"choices": [0.1, 0.2]}}}}
    assert api.post("/v1/sweeps", json=sweep(over=over, seeds=[])).status_code == 201
