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
    """Bytes of the arrays that a job's first worker trains with; the others have no more shards than it.

    The plans of the evaluation, copies for checkpoints, Python, its libraries and the pages of the dataset's file are
    not included.
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
    # A thread has a buffer for each sum that is open at once, and plans that write into it.
    sums = sum(1 + subtree.depth() for subtree in subtrees)
    tracked = 2 if job.validation_rows else 1  # the parameters, and those that were best so far
    vectors = tracked + len(computation.optimizer.slots) + sums
    sizes = {len(cut) for batch in computation.batch_sizes for cut in split_evenly(batch, computation.shards)}
    plans = sums * sum(computation.training_program(rows).nbytes for rows in sizes)
    return vectors * computation.layout.size * DTYPE.itemsize + plans
