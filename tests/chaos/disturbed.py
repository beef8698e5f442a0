"""Jobs with faults during training, and the comparison with an undisturbed run."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.stack import Stack, digits_job, marked_processes, series_of, wait_until
from workers.record.history_files import read_history

if TYPE_CHECKING:
    import random

    from service.client import Client
    from service.client.views import Event

PATIENCE = 120.0  # seconds

LAYERS = [
    {"type": "linear", "units": 48},
    {"type": "batch_norm"},
    {"type": "relu"},
    {"type": "dropout", "rate": 0.2},
    {"type": "linear", "units": 10},
]


def job(epochs: int, **changes: Any) -> dict[str, Any]:
    """A job with every kind of state that is kept between steps. The last batch of an epoch has 30 of 128 rows."""
    return digits_job(
        model={"layers": LAYERS},
        optimizer={"type": "adam", "lr": 0.001, "schedule": {"type": "cosine"}},
        training={"epochs": epochs, "batch_size": 128, "seed": 11, "shards": 10},
        resources={"workers": 2},
        checkpoints={"every_seconds": 0.2, "keep": 3},
        max_restarts=1000,
        **changes,
    )


def cpu_ticks(process: int) -> int:
    """Processor time of a process; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return int(fields[11]) + int(fields[12])


@dataclass
class Bench:
    """A stack, and the results of undisturbed runs."""

    stack: Stack
    client: Client
    _undisturbed: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def directory(self, job_id: str) -> Path:
        return self.stack.data_dir / "jobs" / job_id

    def step(self, job_id: str) -> int:
        return int(self.client.job(job_id)["progress"]["step"])

    def wait_for_step(self, job_id: str, step: int) -> bool:
        """Wait until a job has reached a step; False if it has ended before."""

        def reached() -> bool:
            return self.step(job_id) >= step or self.ended(job_id)

        wait_until(reached, PATIENCE, f"step {step} of {self.client.job(job_id)}")
        return not self.ended(job_id)

    def wait_for_state(self, job_id: str, state: str) -> None:
        wait_until(lambda: self.client.job(job_id)["state"] == state, PATIENCE, f"{job_id} is {state}")

    def ended(self, job_id: str) -> bool:
        return self.client.job(job_id)["finished_at"] is not None

    def events(self, job_id: str, kind: str) -> list[Event]:
        return [event for event in self.client.job(job_id).history() if event["kind"] == kind]

    def undisturbed(self, spec: dict[str, Any]) -> tuple[str, Any]:
        """The result of a run without faults: the digest of its parameters and all of its points."""
        key = repr(spec)
        if key not in self._undisturbed:
            self._undisturbed[key] = self.result(self.client.submit(spec)["id"])
        return self._undisturbed[key]

    def result(self, job_id: str) -> tuple[str, Any]:
        done = self.client.job(job_id).wait(timeout=PATIENCE)
        series = {name: points for name, points in series_of(done).items() if not name.startswith("time/")}
        return done["params_sha256"], series

    def assert_same(self, job_id: str, spec: dict[str, Any]) -> None:
        """Assert that a job ends with the result of an undisturbed run, and that no step is missing or repeated."""
        assert self.result(job_id) == self.undisturbed(spec)
        assert not self.events(job_id, "determinism_violation")
        total = self.client.job(job_id)["progress"]["total_steps"]
        steps = read_history(self.directory(job_id)).column("step").to_pylist()
        assert steps == list(range(1, total + 1))

    def processes(self, title: str) -> list[int]:
        """Ids of the processes of the stack whose command contains `title`."""
        return [int(process.split()[0]) for process in marked_processes(self.stack.mark) if title in process]

    def trainer(self, job_id: str) -> int | None:
        """The worker that computes most in 50 steps of a job; None if the job ends before.

        A worker's title does not say whether it trains: after a request that it answers meanwhile, it is that of an
        idle worker.
        """
        before = {worker: cpu_ticks(worker) for worker in self.processes("ray::Worker")}
        if not before or not self.wait_for_step(job_id, self.step(job_id) + 50):
            return None
        return max(before, key=lambda worker: cpu_ticks(worker) - before[worker])

    def send(self, number: int, title: str, chance: random.Random, count: int = 1) -> list[int]:
        """Send a signal to up to `count` random processes with a title; return their ids."""
        found = self.processes(title)
        chosen = chance.sample(found, min(count, len(found)))
        for process in chosen:
            os.kill(process, number)
        return chosen

    def kill(self, title: str, chance: random.Random, count: int = 1) -> list[int]:
        return self.send(signal.SIGKILL, title, chance, count)
