"""What is measured of a distributed job, and the rows that every subject trains on, in the same order."""

from dataclasses import replace

import numpy as np

from benchmarks.common.workload import Workload

NETWORKS = (
    ((784, 10), 128),
    ((784, 512, 512, 10), 128),
    ((3072, 1024, 1024, 1024, 10), 256),
)
FLOATS = (10_000, 407_050, 2_000_000)

SHARDS = 2  # the fewest for two workers or threads
BATCHES = 8  # of an epoch; all epochs visit the rows in the same order


def workloads() -> list[Workload]:
    return [Workload(widths, batch, "softmax", "sgd", threads=1) for widths, batch in NETWORKS]


def rows(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of an epoch."""
    return replace(workload, batch=BATCHES * workload.batch).data()


def batches(workload: Workload) -> list[np.ndarray]:
    """Return the row numbers of each batch of an epoch."""
    order = np.random.default_rng(1).permutation(BATCHES * workload.batch)
    return np.split(order, BATCHES)
