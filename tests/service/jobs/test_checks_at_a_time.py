"""Everything that checks a job's spec has one of a few places, and ends when its client disconnects."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import service.jobs.checks
from tests.service.fixtures.support import hinge_job, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    return str(request.param)


class Gate:
    """Blocks the checks of specs until `open` is set, and counts them."""

    def __init__(self) -> None:
        self.checks = 0
        self.open = threading.Event()
        self._resolve = service.jobs.checks.resolve

    def resolve(self, *arguments: Any) -> Any:
        self.checks += 1
        assert self.open.wait(30)
        return self._resolve(*arguments)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(service.jobs.checks, "resolve", gate.resolve)
    monkeypatch.setattr("service.http.room.WAIT", 0.05)
    yield gate
    gate.open.set()


REQUESTS: dict[str, Callable[[httpx.Client, str], httpx.Response]] = {
    "validate": lambda api, _: api.post("/v1/jobs/validate", json=hinge_job()),
    "submit": lambda api, _: api.post("/v1/jobs", json=hinge_job()),
    "change": lambda api, job: api.patch(f"/v1/jobs/{job}", json={"resources": {"workers": 2}}),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_few_specs_are_checked_at_a_time(api: httpx.Client, kind: str, gate: Gate) -> None:
    gate.open.set()
    job = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    gate.open.clear()
    gate.checks = 0
    with ThreadPoolExecutor(60) as pool:
        try:
            working = [pool.submit(REQUESTS["validate"], api, job) for _ in range(2)]
            wait_until(lambda: gate.checks == 2, "two specs are checked")
            # More than the process has threads for requests.
            refused = [answer.result() for answer in [pool.submit(REQUESTS[kind], api, job) for _ in range(50)]]
            assert {(answer.status_code, answer.headers.get("Retry-After")) for answer in refused} == {(503, "5")}
            assert "already computes 2 checks of jobs" in refused[0].json()["detail"]
            assert gate.checks == 2
            assert api.get("/healthz").status_code == 200
            assert api.get("/v1/jobs").status_code == 200, "other requests are served meanwhile"
        finally:
            gate.open.set()
        assert [answer.result().status_code for answer in working] == [200, 200]
    assert REQUESTS[kind](api, job).is_success


def test_the_checks_end_when_the_client_disconnects(api: httpx.Client, app: FastAPI, gate: Gate) -> None:
    with httpx.Client(base_url=api.base_url, trust_env=False) as leaving, ThreadPoolExecutor() as pool:
        answer = pool.submit(leaving.post, "/v1/jobs", json=hinge_job(), timeout=0.3)
        wait_until(lambda: gate.checks == 1, "the spec is checked")
        assert isinstance(answer.exception(), httpx.ReadTimeout)
    room = app.state.rooms.checks
    (stop,) = room._working
    wait_until(lambda: stop._error is not None, "the work is told to stop")
    gate.open.set()
    wait_until(lambda: room._places._value == room.most, "the place is free")
    assert api.get("/v1/jobs").json()["data"] == []
