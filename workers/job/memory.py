"""Estimate of the memory that the arrays of a job take, made before the job runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.data.splitting import split_evenly
from workers.exchange.tree import complete_subtrees
from workers.job.computation import Computation

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.job.resolve import ResolvedJob

DTYPE = np.dtype(np.float32)


def memory_per_worker(job: ResolvedJob, dataset: DatasetInfo) -> int:
    """Bytes of the arrays of a job's first worker, in training and evaluation; the others have no more shards than it.

    Copies for checkpoints, Python, its libraries and the pages of the dataset's file are not included.
    """
    spec, resources = job.spec, job.spec.resources
    computation = Computation.of(spec, dataset, job.train_rows)
    owned = split_evenly(computation.shards, resources.workers)[0]
    lanes = min(len(owned), resources.lanes // resources.workers)
    subtrees = [
        subtree
        for part in split_evenly(len(owned), lanes)
        for subtree in complete_subtrees(owned[part.start : part.stop], computation.shards)
    ]
    # A thread has a buffer for each sum that is open at once, and one block of memory for all its plans.
    sums = sum(1 + subtree.depth() for subtree in subtrees)
    tracked = 2 if job.validation_rows else 1  # the parameters, and those that were best so far
    vectors = tracked + len(computation.optimizer.slots) + sums
    plans = lanes * computation.largest_program(job.validation_rows)
    return vectors * computation.layout.size * DTYPE.itemsize + plans
