"""A worker's step, exact and free. All of them run the same code, and load their batch from a dataset in memory."""

from __future__ import annotations

from dataclasses import replace

from threadpoolctl import threadpool_limits

from benchmarks.common.team import Share
from benchmarks.common.workload import Workload
from benchmarks.distributed.gradfleet import WorkerStep

SHARDS = 4  # the default of a job


def exact(rank: int, members: int, share: Share, key: bytes, workload: Workload) -> WorkerStep:
    """Return a job's step: shards of a fixed number, one BLAS thread for each, summed along the canonical tree."""
    return WorkerStep(rank, members, share, key, workload, SHARDS)


def shard_per_thread(rank: int, members: int, share: Share, key: bytes, workload: Workload) -> WorkerStep:
    """Return a step with as many shards as threads.

    With two threads the sum has one addition, so it has the same bits and takes the same time in any order of arrival.
    """
    return WorkerStep(rank, members, share, key, workload, workload.threads)


def flat(rank: int, members: int, share: Share, key: bytes, workload: Workload) -> WorkerStep:
    """Return a step on the whole batch at once, with the threads inside BLAS."""
    threadpool_limits(workload.threads)
    return WorkerStep(rank, members, share, key, replace(workload, threads=1), 1)
