"""Damaged checkpoints and a full disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.chaos.disturbed import PATIENCE, Bench, job
from tests.e2e.stack import wait_until
from tests.fixtures.small_disk import fill, needs_mount, small_disk

if TYPE_CHECKING:
    import random

pytestmark = pytest.mark.timeout(900)


def test_a_truncated_checkpoint_is_refused(bench: Bench, chance: random.Random) -> None:
    spec = job(epochs=300)
    disturbed = bench.client.submit(spec)["id"]
    checkpoints = bench.directory(disturbed) / "checkpoints"
    assert bench.wait_for_step(disturbed, 1000)
    bench.client.job(disturbed).pause()
    bench.wait_for_state(disturbed, "paused")
    before, newest = sorted(path for path in checkpoints.iterdir() if path.name.isdigit())[-2:]
    file = chance.choice(sorted(newest.iterdir()))
    os.truncate(file, chance.randrange(file.stat().st_size))
    bench.client.job(disturbed).resume()
    bench.assert_same(disturbed, spec)
    (refused,) = bench.events(disturbed, "checkpoint_refused")
    assert newest.name in refused["data"]["message"]
    started = bench.events(disturbed, "training_started")[-1]
    assert started["data"]["step"] == int(before.name)


@needs_mount
def test_a_full_disk(bench: Bench, chance: random.Random) -> None:
    """Training continues without checkpoints, also after a fault. At the end it waits for free space."""
    spec = job(epochs=300)
    bench.undisturbed(spec)

    def failures() -> list[int]:
        return [event["data"]["step"] for event in bench.events(disturbed, "checkpoint_failed")]

    filler = bench.stack.data_dir / "jobs" / "filler"
    with small_disk(filler.parent):
        disturbed = bench.client.submit(spec)["id"]
        bench.wait_for_step(disturbed, chance.randint(1, 1000))
        fill(filler)
        wait_until(failures, PATIENCE, "a failed checkpoint")
        bench.kill("ray::Worker.train", chance)
        last = bench.client.job(disturbed)["progress"]["total_steps"]
        wait_until(lambda: last in failures(), PATIENCE, "a failure of the last checkpoint")
        assert bench.client.job(disturbed)["state"] == "running"
        filler.unlink()
        bench.assert_same(disturbed, spec)


@needs_mount
def test_a_job_that_waits_for_disk_space_can_be_cancelled(bench: Bench, rounds: int) -> None:
    if rounds == 1:
        pytest.skip("takes half a minute: run `make chaos`")
    filler = bench.stack.data_dir / "jobs" / "filler"
    with small_disk(filler.parent):
        disturbed = bench.client.submit(job(epochs=50))["id"]
        bench.wait_for_step(disturbed, 1)
        fill(filler)
        last = bench.client.job(disturbed)["progress"]["total_steps"]
        wait_until(
            lambda: last in [event["data"]["step"] for event in bench.events(disturbed, "checkpoint_failed")],
            PATIENCE,
            "a failure of the last checkpoint",
        )
        bench.client.job(disturbed).cancel()
        bench.wait_for_state(disturbed, "cancelled")
