"""Estimate of the memory that the arrays of a job take, made before the job runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from workers.data.splitting import split_evenly
from workers.exchange.tree import complete_subtrees
from workers.job.computation import Computation

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo
    from workers.job.spec import JobSpec

DTYPE = np.dtype(np.float32)


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes of the arrays of a worker, in training and evaluation, and the layer that takes most of them.

    Copies for checkpoints, Python, its libraries and the pages of the dataset's file are not included.
    """

    nbytes: int
    largest_layer: str


def memory_per_worker(spec: JobSpec, dataset: DatasetInfo, rows: tuple[int, int]) -> WorkerMemory:
    """The memory of the first worker of a resolved spec; the others have no more shards than it.

    `rows` are those of training and of validation.
    """
    (train, validation), resources = rows, spec.resources
    computation = Computation.of(spec, dataset, train)
    owned = split_evenly(computation.shards, resources.workers)[0]
    lanes = min(len(owned), resources.lanes // resources.workers)
    subtrees = [
        subtree
        for part in split_evenly(len(owned), lanes)
        for subtree in complete_subtrees(owned[part.start : part.stop], computation.shards)
    ]
    # A thread has a buffer for each sum that is open at once, and one block of memory for all its plans.
    sums = sum(1 + subtree.depth() for subtree in subtrees)
    tracked = 2 if validation else 1  # the parameters, and those that were best so far
    vectors = tracked + len(computation.optimizer.slots) + sums
    program = computation.largest_program(validation)
    taken: Counter[str] = Counter()
    for (_, name, *_), buffer in program.buffers.items():
        taken[name] += lanes * prod(buffer.shape) * buffer.dtype.itemsize
    for declared in program.parameters:
        taken[declared.name.partition(".")[0]] += vectors * prod(declared.shape) * DTYPE.itemsize
    # Losses, also those of heads and those that are metrics, and inputs are no layers.
    layers = [name for name in computation.graph.nodes if name not in computation.training_losses]
    return WorkerMemory(
        vectors * computation.layout.size * DTYPE.itemsize + lanes * program.nbytes,
        max(layers, key=lambda name: taken[name]),
    )
