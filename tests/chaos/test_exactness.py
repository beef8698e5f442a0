"""No bit of a result depends on the number of workers and threads, or on pauses and resizes."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.disturbed import Bench, job

if TYPE_CHECKING:
    import random

pytestmark = pytest.mark.timeout(900)

OPTIMIZERS: list[dict[str, Any]] = [{"type": "sgd", "lr": 0.02, "momentum": 0.9}, {"type": "adam", "lr": 0.001}]
PLACES = [{"workers": workers, "cpus_per_worker": cpus} for workers, cpus in product(range(1, 6), (1, 2))]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["type"])
@pytest.mark.parametrize("loss", ["hinge", "softmax"])
def test_any_number_of_workers_and_threads(bench: Bench, loss: str, optimizer: dict[str, Any]) -> None:
    spec = job(epochs=3) | {"loss": {"type": loss}, "optimizer": optimizer}
    results = {str(place): bench.result(bench.client.submit(spec | {"resources": place})["id"]) for place in PLACES}
    first, *others = results
    for place in others:
        assert results[place] == results[first], f"{place} differs from {first}"


def test_losses_and_optimizers_change_the_result(bench: Bench) -> None:
    """Shows that the test above can fail."""
    digests = {
        bench.result(bench.client.submit(job(epochs=3) | {"loss": {"type": loss}, "optimizer": optimizer})["id"])[0]
        for loss, optimizer in product(("hinge", "softmax"), OPTIMIZERS)
    }
    assert len(digests) == 4


def test_pausing_and_resizing(bench: Bench, chance: random.Random, rounds: int) -> None:
    spec = job(epochs=300)
    disturbed = bench.client.submit(spec)["id"]
    for _ in range(4 * rounds):
        if not bench.wait_for_step(disturbed, bench.step(disturbed) + chance.randint(1, 500)):
            break
        bench.client.job(disturbed).pause()
        bench.wait_for_state(disturbed, "paused")
        assert bench.client.job(disturbed)["restarts"] == 0
        bench.client.job(disturbed).resize(workers=chance.randint(1, 5), cpus_per_worker=chance.randint(1, 2))
        bench.client.job(disturbed).resume()
    bench.assert_same(disturbed, spec)
    assert len(bench.client.job(disturbed)["attempts"]) > 1


def test_resizing_during_training(bench: Bench, chance: random.Random, rounds: int) -> None:
    spec = job(epochs=300)
    disturbed = bench.client.submit(spec)["id"]
    for _ in range(4 * rounds):
        if bench.wait_for_step(disturbed, bench.step(disturbed) + chance.randint(1, 500)):
            bench.client.job(disturbed).resize(workers=chance.randint(1, 5))
    bench.assert_same(disturbed, spec)
    (attempt,) = bench.client.job(disturbed)["attempts"]
    assert attempt["number"] == 1
    assert len({event["data"]["workers"] for event in bench.events(disturbed, "training_started")}) > 1
