"""MLflow hangs or is killed while jobs train: training is not affected, and MLflow has every point in the end."""

from __future__ import annotations

import signal
import time
from statistics import median
from typing import TYPE_CHECKING

import pytest

from tests.chaos.disturbed import Bench, job
from tests.e2e.mlflow_series import assert_exported
from tests.e2e.stack import series_of, wait_until

if TYPE_CHECKING:
    import random

    from service.client import Job

pytestmark = pytest.mark.timeout(900)

OUTAGE = 60.0  # seconds, in a longer run
NOISE = 5.0  # factor by which a step may take longer: restarting MLflow needs one of the two cores
EXPORTED = 180.0  # seconds: the exporter retries at least every minute


def step_ms(done: Job) -> float:
    return float(median(series_of(done)["time/step_ms"]["values"]))


def exported(bench: Bench, job_id: str) -> Job:
    """The job, once its export to MLflow is complete."""

    def complete() -> bool:
        mlflow = bench.client.job(job_id)["mlflow"]
        return mlflow is not None and mlflow["complete"]

    wait_until(complete, EXPORTED, f"MLflow has {job_id}")
    return bench.client.job(job_id)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_an_outage_during_training(bench: Bench, chance: random.Random, rounds: int, number: signal.Signals) -> None:
    if number == signal.SIGKILL and rounds == 1:
        pytest.skip("tests/service does this to the export alone; with jobs that train: run `make chaos`")
    spec = job(epochs=300)
    undisturbed = exported(bench, bench.client.submit(spec)["id"])
    disturbed = bench.client.submit(spec)["id"]
    bench.wait_for_step(disturbed, chance.randint(1, 1500))
    began = time.monotonic()
    bench.stack.signal_mlflow(number)
    try:
        bench.assert_same(disturbed, spec)  # waits for the end of the job, while MLflow is still down
        if rounds > 1:
            wait_until(lambda: time.monotonic() - began > OUTAGE, 2 * OUTAGE, "the end of the outage")
    finally:
        if number == signal.SIGSTOP:
            bench.stack.signal_mlflow(signal.SIGCONT)
    assert step_ms(bench.client.job(disturbed)) < NOISE * step_ms(undisturbed)
    for job_id in (disturbed, undisturbed["id"]):
        assert_exported(bench.stack, exported(bench, job_id))
