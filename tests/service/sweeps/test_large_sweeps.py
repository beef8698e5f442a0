"""Sweeps of many members with long models: what the members share is checked once, and one sweep at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import service.sweeps.making
import workers.job.checks.model
from service.errors import ServiceError
from service.http.room import Stop
from service.jobs.schemas import HINGE_JOB
from service.sweeps import routes
from service.sweeps.members import members_of
from tests.service.fixtures.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    return str(request.param)


def sweep(over: dict[str, Any], layers: int = 250) -> dict[str, Any]:
    base: dict[str, Any] = {key: value for key, value in HINGE_JOB.items() if key not in {"name", "experiment"}}
    hidden = [{"type": "linear", "units": 4} for _ in range(layers - 1)]
    return {
        "name": "long",
        "base": {**base, "model": {"layers": [*hidden, {"type": "linear", "units": 10}]}},
        "over": over,
    }


def test_what_members_share_is_checked_once(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    built, checked = [], []
    build, validate = workers.job.checks.model.build_classifier, service.sweeps.making.ModelSpec.model_validate

    def count_built(layers: Any, *rest: Any) -> Any:
        built.append(len(layers))
        return build(layers, *rest)

    def count_checked(document: Any) -> Any:
        checked.append(len(document["layers"]))
        return validate(document)

    monkeypatch.setattr(workers.job.checks.model, "build_classifier", count_built)
    monkeypatch.setattr(service.sweeps.making.ModelSpec, "model_validate", count_checked)
    rates = [0.001 + number / 1e6 for number in range(299)]
    answer = api.post("/v1/sweeps", json=sweep({"grid": {"optimizer.lr": [*rates, -1]}}), timeout=60)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["over.grid.optimizer.lr.299"]
    assert (built, checked) == ([250], [250])


def test_too_many_layers_are_refused_before_any_is_checked(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.job.checks.model, "build_classifier", lambda *_: pytest.fail("a model is built"))
    units = {"grid": {"model.layers.0.units": list(range(1, 101))}}
    answer = api.post("/v1/sweeps", json=sweep(units))
    assert answer.status_code == 422
    expected = "over: makes 100 different models of 25,000 layers in all; at most 20,000 are allowed"
    assert answer.json()["detail"] == expected


def test_layers_of_blocks_count(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.job.checks.model, "build_classifier", lambda *_: pytest.fail("a model is built"))
    document = sweep({"grid": {"model.layers.0.times": list(range(1, 201))}}, layers=1)
    inner = [{"type": "linear", "units": 4}, {"type": "relu"}]
    document["base"]["model"]["layers"].insert(0, {"type": "repeat", "times": 1, "layers": inner})
    answer = api.post("/v1/sweeps", json=document)
    assert answer.status_code == 422
    # The model with the block repeated n times has 2n + 1 layers; beyond the limit, blocks are no longer counted.
    most = next(n for n in range(200) if n * (n + 2) > 20_000)
    layers = most * (most + 2) + 2 * (200 - most)
    expected = f"over: makes 200 different models of {layers:,} layers in all; at most 20,000 are allowed"
    assert answer.json()["detail"] == expected


def test_a_wrong_model_of_many_members_is_reported_once(api: httpx.Client) -> None:
    document = sweep({"grid": {"optimizer.lr": [0.1, 0.2, -1]}}, layers=3)
    document["base"]["model"]["layers"][1]["units"] = -1
    answer = api.post("/v1/sweeps", json=document)
    assert [error["field"] for error in answer.json()["errors"]] == ["base.model.layers.1.units"]


class Gate:
    """Blocks the checks of sweeps until `open` is set."""

    def __init__(self) -> None:
        self.stops: list[Stop] = []
        self.open = threading.Event()

    def members_of(self, sweep: Any, services: Any, stop: Stop) -> Any:
        self.stops.append(stop)
        assert self.open.wait(30)
        return members_of(sweep, services, stop)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(routes, "members_of", gate.members_of)
    monkeypatch.setattr("service.http.room.WAIT", 0.05)
    yield gate
    gate.open.set()


def test_one_sweep_is_checked_at_a_time(api: httpx.Client, database: Database, gate: Gate) -> None:
    document = sweep({"grid": {"optimizer.lr": [0.1, 0.2]}}, layers=2)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(api.post, "/v1/sweeps", json=document)
        wait_until(lambda: gate.stops, "the first sweep is checked")
        refused = api.post("/v1/sweeps", json=document)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert "already computes 1 new sweeps" in refused.json()["detail"]
        with database.writing():
            pass  # no transaction is open
        gate.open.set()
        assert first.result().status_code == 201
    assert api.post("/v1/sweeps", json=document).status_code == 201


def test_the_checks_end_when_the_client_disconnects(api: httpx.Client, app: FastAPI, gate: Gate) -> None:
    with httpx.Client(base_url=api.base_url, trust_env=False) as leaving, ThreadPoolExecutor() as pool:
        document = sweep({"grid": {"optimizer.lr": [0.1, 0.2]}}, layers=2)
        answer = pool.submit(leaving.post, "/v1/sweeps", json=document, timeout=0.3)
        (stop,) = wait_until(lambda: gate.stops, "the sweep is checked")
        assert isinstance(answer.exception(), httpx.ReadTimeout)

    def stopped() -> bool:
        try:
            stop.check()
        except ServiceError:
            return True
        return False

    wait_until(stopped, "the work is told to stop")
    gate.open.set()
    room = app.state.rooms.sweeps
    wait_until(lambda: not room._working, "the work has ended")
    assert api.get("/v1/sweeps").json()["data"] == []
