"""Sweeps through the whole stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.job_history import assert_unbroken
from tests.e2e.stack import digits_job, series_of

if TYPE_CHECKING:
    from service.client import Client, Job, Sweep

EPOCHS, STEPS = 9, 12
RATES = [0.0001, 0.001, 0.02, 0.003, 0.0003, 0.01]


def run_sweep(client: Client, name: str, **changes: Any) -> Sweep:
    """A sweep that has ended."""
    base = digits_job(training={"epochs": EPOCHS, "batch_size": 128, "seed": 7, "shards": 4}, resources={"workers": 1})
    del base["name"], base["experiment"]
    sweep = {"name": name, "experiment": name, "base": base, "over": {"grid": {"optimizer.lr": RATES}}}
    return client.sweep(sweep | changes).wait(timeout=120)


def points_of(job: Job, up_to: int = EPOCHS * STEPS) -> dict[str, list[tuple[int, float]]]:
    """All points of a job by metric, without the metrics that measure time."""
    return {
        name: [point for point in zip(series["steps"], series["values"], strict=True) if point[0] <= up_to]
        for name, series in series_of(job).items()
        if not name.startswith("time/")
    }


@pytest.mark.timeout(360)
def test_halving_changes_no_bit_of_its_jobs(client: Client) -> None:
    whole = run_sweep(client, "whole")
    assert (whole.state, whole.counts) == ("succeeded", {"succeeded": len(RATES)})
    stopping = {"type": "halving", "metric": "val/accuracy", "factor": 3, "first": 1}
    halved = run_sweep(client, "halved", stopping=stopping, parallel=2)
    assert (halved.state, halved.counts) == ("succeeded", {"stopped": 5, "succeeded": 1})

    jobs = halved.jobs()
    # The rungs are at epochs 1 and 3. Two jobs continue after the first rung, and one of them after the second.
    assert sorted(job["progress"]["step"] for job in jobs) == [STEPS] * 4 + [3 * STEPS, EPOCHS * STEPS]
    for job, alone in zip(jobs, whole.jobs(), strict=True):
        assert job["restarts"] == 0
        assert_unbroken(client, job["id"])
        assert points_of(job) == points_of(alone, up_to=job["progress"]["step"])
        if job["state"] == "succeeded":
            assert job["params_sha256"] == alone["params_sha256"] is not None
            assert job["metrics"]["val/accuracy"] == alone["metrics"]["val/accuracy"] > 0.9
        else:
            assert job["state"] == "cancelled"
            assert job["reason"].startswith("stopped_by_sweep: val/accuracy ")
            assert job["reason"].endswith(
                (" at epoch 1 is not among the best 2 of 6", " at epoch 3 is not among the best 1 of 2")
            )
