"""Processes are killed and suspended at random moments; no bit of the result changes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.chaos.disturbed import PATIENCE, Bench, job
from tests.e2e.stack import wait_until

if TYPE_CHECKING:
    import random

pytestmark = pytest.mark.timeout(1800)

WORKER, SUPERVISOR = "ray::Worker.train", "ray::Supervisor"
PARTS_OF_RAY = ["raylet/raylet ", "gcs/gcs_server "]
VICTIMS = [(WORKER, 1), (WORKER, 2), (SUPERVISOR, 1)]
KILLS = 7  # in a round


def test_kills_at_random_moments_change_no_bit(bench: Bench, chance: random.Random, rounds: int) -> None:
    """Jobs run one after another until there were enough kills."""
    spec = job(epochs=300)
    bench.undisturbed(spec)
    killed = 0
    victims = [VICTIMS[kill % len(VICTIMS)] for kill in range(KILLS * rounds)]
    chance.shuffle(victims)
    while killed < len(victims):
        disturbed = bench.client.submit(spec)["id"]
        # Sometimes immediately, so that workers are also killed while they start.
        while killed < len(victims) and bench.wait_for_step(
            disturbed, bench.step(disturbed) + chance.choice([0, chance.randint(1, 600)])
        ):
            title, count = victims[killed]
            killed += len(bench.kill(title, chance, count) or bench.kill("ray::", chance)) > 0
        bench.assert_same(disturbed, spec)
        restarts = bench.events(disturbed, "restarted")
        assert len(restarts) == bench.client.job(disturbed)["restarts"]
        assert all(event["reason"] and event["data"]["message"] for event in restarts)


@pytest.mark.parametrize("title", [WORKER, SUPERVISOR])
def test_a_suspended_process_is_detected(bench: Bench, chance: random.Random, rounds: int, title: str) -> None:
    if title == SUPERVISOR and rounds == 1:
        pytest.skip("takes a minute: run `make chaos`")
    spec = job(epochs=300)
    disturbed = bench.client.submit(spec)["id"]
    bench.wait_for_step(disturbed, chance.randint(1, 600))
    if title == SUPERVISOR:
        stopped = bench.send(signal.SIGSTOP, title, chance)
    else:
        stopped = [worker for worker in [bench.trainer(disturbed)] if worker is not None]
        for worker in stopped:
            os.kill(worker, signal.SIGSTOP)
    assert stopped
    wait_until(
        lambda: bench.events(disturbed, "restarted"), PATIENCE, f"a restart after process {stopped} was suspended"
    )
    bench.assert_same(disturbed, spec)
    (restart,) = bench.events(disturbed, "restarted")
    assert "answered" in restart["data"]["message"]


@pytest.mark.parametrize("part", PARTS_OF_RAY)
def test_the_whole_cluster_dies(bench: Bench, chance: random.Random, rounds: int, part: str) -> None:
    if rounds == 1:
        pytest.skip("tests/e2e does this at one moment; at random moments: run `make chaos`")
    spec = job(epochs=300)
    disturbed = bench.client.submit(spec)["id"]
    bench.wait_for_step(disturbed, chance.randint(1, 600))
    assert bench.kill(part, chance)
    bench.assert_same(disturbed, spec)
