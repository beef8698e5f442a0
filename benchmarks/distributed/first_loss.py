"""Print, as JSON, the seconds from the POST of a job to its first loss, read over REST, on an idle stack.

It runs in the project's environment and starts `gradfleet up`, as a user does.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.processors import wait_until_quiet
from tests.e2e.stack import Stack, write_digits

if TYPE_CHECKING:
    from service.client import Client

POLL = 0.005  # seconds between a response and the next request
TIMEOUT = 60.0


def job(workers: int) -> dict[str, Any]:
    """Return one of the demo's jobs."""
    return {
        "name": f"first-loss-{workers}",
        "data": {"dataset": "digits", "validation": 0.2, "standardize": True},
        "model": {"layers": [{"type": "linear", "units": 128}, {"type": "relu"}, {"type": "linear", "units": 10}]},
        "loss": {"type": "softmax"},
        "regularization": {"l2": 0.005},
        "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": {"type": "cosine"}},
        "training": {"epochs": 40, "batch_size": 128, "seed": 0, "shards": 4},
        "resources": {"workers": workers},
    }


def measure(client: Client, workers: int) -> float:
    """Return the seconds of one job, and wait until it has ended."""
    start = time.perf_counter()
    submitted = client.submit(job(workers))
    while not submitted.metrics(["train/loss"]).num_rows:
        if time.perf_counter() > start + TIMEOUT:
            raise TimeoutError(f"no loss after {TIMEOUT:g} s: {submitted.refresh().data}")
        time.sleep(POLL)
    seconds = time.perf_counter() - start
    submitted.wait(TIMEOUT)
    return seconds


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="gradfleet-", ignore_cleanup_errors=True) as directory:
        stack = Stack(Path(directory)).start()
        try:
            with stack.client() as client:
                client.register_dataset("digits", write_digits(stack.data_dir / "uploads" / "digits.parquet"), "label")
                measure(client, 1)  # the first job of a stack is slower
                disturbed = 0
                seconds = {f"gradfleet, {workers} worker{'s' * (workers > 1)}": [] for workers in (1, 2)}
                for _ in range(jobs):
                    for workers, (_, values) in enumerate(seconds.items(), start=1):
                        disturbed += not wait_until_quiet()
                        values.append(measure(client, workers))
        finally:
            stack.signal(signal.SIGTERM)
    print(json.dumps({"seconds": seconds, "disturbed": disturbed}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
