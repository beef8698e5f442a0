"""Memory of a worker that trains on a file of 4 GB: `python -m benchmarks.data.large`, in the project's environment.

Measured is the process's anonymous memory (RssAnon), without the file's pages, which the system takes back when it
needs memory. The file is written to the temporary directory, where it takes twice its size meanwhile.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import threading
from pathlib import Path
from time import perf_counter

import numpy as np

from service.datasets.preparation.writing import write_dataset
from workers.data.dataset import DatasetInfo
from workers.exchange.control import Command
from workers.exchange.messages import KEY_BYTES, Exchange, Membership
from workers.job.data import scaling_of
from workers.job.resolve import resolve
from workers.job.spec import JobSpec
from workers.training.assignment import Assignment
from workers.training.trainer import Trainer

FEATURES, CLASSES = 784, 10
SHUFFLES = ({"type": "full"}, {"type": "chunks"})
STATUS = Path("/proc/self/status")


def mebibytes(field: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


class Peak:
    """A context in which the largest RssAnon is measured, a hundred times a second."""

    def __enter__(self) -> Peak:
        self.before = self.peak = mebibytes("RssAnon")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.peak = max(self.peak, mebibytes("RssAnon"))

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


def write(directory: Path, gigabytes: float) -> DatasetInfo:
    """Write images of random bytes, each with a bright pixel that marks its class."""
    rows = int(gigabytes * 1e9) // FEATURES
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, rows)
    spooled = directory / "spooled"
    images = random.integers(0, 200, (20_000, FEATURES), np.uint8)
    with spooled.open("wb") as file:
        for start in range(0, rows, len(images)):
            of_block = labels[start : start + len(images)]
            chunk = images[: len(of_block)].copy()
            chunk[np.arange(len(chunk)), of_block] += 55
            file.write(chunk)
    info = DatasetInfo("", "", rows, FEATURES, tuple("abcdefghij"), "uint8", (28, 28, 1))
    datasets = directory / "datasets"
    datasets.mkdir()
    info = write_dataset(info, np.memmap(spooled, np.uint8, "r"), labels, None, directory, datasets)
    spooled.unlink()
    return info


def train(info: DatasetInfo, directory: Path, shuffle: dict[str, str]) -> int:
    """Train for an epoch as the only worker, and return the number of steps."""
    spec = {
        "name": "large",
        "data": {"dataset": "large", "validation": 0.01, "shuffle": shuffle},
        "model": {"layers": [{"type": "linear", "units": CLASSES}]},
        "loss": {"type": "softmax"},
        "optimizer": {"type": "sgd", "lr": 0.01},
        "training": {"epochs": 1, "batch_size": 1024},
    }
    job = resolve(JobSpec.model_validate(spec), info)
    scaling = scaling_of(job.spec, info)
    assignment = Assignment("large", 1, job.spec.model_dump(mode="json"), info, scaling, directory / shuffle["type"])
    with Exchange(Membership(0, 1, 1, secrets.token_bytes(KEY_BYTES)), "127.0.0.1", 60) as exchange:
        exchange.connect([exchange.address])
        Trainer(assignment, exchange, report=lambda _: None, pending_command=lambda: Command.NONE).run()
    return job.total_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        info = write(Path(folder), arguments.gigabytes)
        print(f"{info.rows:,} rows, {Path(info.path).stat().st_size / 1e9:.2f} GB")
        for shuffle in SHUFFLES:
            start = perf_counter()
            with Peak() as memory:
                steps = train(info, Path(folder), shuffle)
            print(
                f"{shuffle['type']}: {steps:,} steps in {perf_counter() - start:.0f} s; RssAnon "
                f"{memory.before:.0f} MiB before, {memory.peak:.0f} at most",
                flush=True,
            )


if __name__ == "__main__":
    main()
