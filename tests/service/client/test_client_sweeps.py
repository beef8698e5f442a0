from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from service.client import ApiError, Client
from service.jobs.states import State
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fakes.flaky_proxy import Disconnect, LoseResponse, flaky
from tests.service.fixtures.support import train

if TYPE_CHECKING:
    import httpx

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")
SEEDS = LOSSES_SWEEP | {"over": None, "seeds": [0, 1, 2]}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # the client does not depend on the database


def test_life_of_a_sweep(client: Client, database: Database) -> None:
    client.submit(LOSSES_SWEEP["base"] | {"name": "alone"})
    sweep = client.sweep(SEEDS)
    assert (sweep.name, sweep.state, sweep.counts, sweep.ended) == ("losses", "queued", {"queued": 3}, False)
    assert sweep["parallel"] == 2
    assert repr(sweep) == f"<Sweep {sweep.id} 'losses' queued>"
    with pytest.raises(TimeoutError, match=rf"^sweep {sweep.id} is queued after 0 s$"):
        sweep.wait(timeout=0)
    jobs = sweep.jobs()
    assert [job.name for job in jobs] == ["losses-0", "losses-1", "losses-2"]
    assert [job["sweep"]["overrides"] for job in jobs] == [{"training.seed": seed} for seed in range(3)]
    for job in jobs[:2]:
        train(database, job.id, State.SUCCEEDED)
    assert [job.id for job in sweep.jobs(state="queued")] == [jobs[2].id]
    waiting = threading.Thread(target=sweep.wait)
    waiting.start()
    train(database, jobs[2].id, State.FAILED)
    waiting.join(20)
    assert not waiting.is_alive()
    assert (sweep.state, sweep.ended, sweep.counts) == ("failed", True, {"failed": 1, "succeeded": 2})
    assert [seen.state for seen in sweep.watch()] == ["failed"]
    assert sweep.wait(timeout=0) is sweep


def test_the_comparison(client: Client, database: Database) -> None:
    sweep = client.sweep(LOSSES_SWEEP)
    for job in sweep.jobs()[:6]:
        train(database, job.id, State.SUCCEEDED)
    found = sweep.comparison()
    assert [group["n"] for group in found["groups"]] == [3, 3, 0, 0]
    assert found["groups"][0]["metrics"]["val/accuracy"] == {"mean": 0.5, "std": 0.0, "n": 3}
    assert found["groups"][0]["metrics"]["kept/val/accuracy"] == {"mean": 0.625, "std": 0.0, "n": 3}
    assert (found["metric"], found["best_per_loss"], found["left_out"]) == ("val/accuracy", {"hinge": 0}, 6)
    assert sweep.comparison("val/hinge")["metric"] == "val/hinge"
    with pytest.raises(
        ApiError, match="metric: is 'val/acuracy', which is no metric of validation rows: must be one of val/acc"
    ):
        sweep.comparison("val/acuracy")


def test_listing_and_cancelling_sweeps(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.pages.LARGEST_PAGE", 2)
    made = [client.sweep(SEEDS | {"name": str(number)}).id for number in range(3)]
    assert [sweep.id for sweep in client.sweeps()] == made[::-1]
    assert [sweep.id for sweep in client.sweeps(limit=1)] == made[2:]
    sweep = client.find_sweep(made[0])
    assert [job.name for job in sweep.jobs()] == ["0-0", "0-1", "0-2"], "over two pages"
    assert sweep.cancel() is sweep
    assert (sweep.state, sweep.counts) == ("cancelled", {"cancelled": 3})
    for job in sweep.jobs():
        job.delete()
    assert sweep.refresh().state == "empty"
    assert sweep.ended
    with pytest.raises(ApiError, match="There is no sweep"):
        client.find_sweep("sweep_0")


def test_a_repeated_submission_creates_one_sweep(api: httpx.Client) -> None:
    with flaky(str(api.base_url).rstrip("/")) as proxy, Client(proxy.url) as client:
        proxy.faults = [LoseResponse(), Disconnect()]
        sweep = client.sweep(SEEDS)
        assert not proxy.faults
        proxy.faults = [LoseResponse()]
        assert sweep.cancel().state == "cancelled"
        proxy.faults = [Disconnect()]
        assert [found.id for found in client.sweeps()] == [sweep.id]
        first = client.sweep(SEEDS, idempotency_key="mine")
        assert client.sweep(SEEDS, idempotency_key="mine").id == first.id
