"""How much memory a job's arrays will take, known before any of them is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import Graph, ParameterLayout, build_classifier, with_loss
from core.plan.arena import place
from core.plan.program import lifetimes, needed_steps
from workers.data.splitting import split_evenly
from workers.exchange.tree import complete_subtrees

if TYPE_CHECKING:
    from workers.job.resolve import ResolvedJob

DTYPE = np.dtype(np.float32)


def memory_per_worker(job: ResolvedJob, features: int) -> int:
    """Bytes of the arrays of a job's first worker, estimated from above; the others have no more shards than it.

    Python, its libraries and the rows of the data that the system keeps in memory come on top.
    """
    spec = job.spec
    training, resources = spec.training, spec.resources
    if training.shards is None:
        raise ValueError("training.shards is not set: the spec must be resolved first")
    graph = with_loss(build_classifier(spec.model.layers, features), spec.loss)
    layout = ParameterLayout(graph.parameters())
    owned = split_evenly(training.shards, resources.workers)[0]
    lanes = min(len(owned), resources.lanes // resources.workers)
    subtrees = [
        subtree
        for part in split_evenly(len(owned), lanes)
        for subtree in complete_subtrees(owned[part.start : part.stop], training.shards)
    ]
    # A thread has a buffer for each sum that is open at once, and plans that write into it.
    sums = sum(1 + subtree.depth() for subtree in subtrees)
    tracked = 2 if job.validation_rows else 1  # the parameters, and those that were best so far
    vectors = tracked + len(spec.optimizer.slots) + sums
    last_batch = job.train_rows % training.batch_size or training.batch_size
    sizes = {len(cut) for batch in (training.batch_size, last_batch) for cut in split_evenly(batch, training.shards)}
    plans = sums * sum(plan_bytes(graph, rows) for rows in sizes)
    return vectors * layout.size * DTYPE.itemsize + plans


def plan_bytes(graph: Graph, rows: int) -> int:
    """Bytes that a training plan of a classifier with its loss allocates for a batch of `rows`, without the vectors."""
    shapes = graph.shapes(rows)
    layout = ParameterLayout(graph.parameters())
    differentiable = {*layout.names, "scores"}
    steps = needed_steps(graph, shapes, ("loss", "scores"), differentiable, training=True)
    inputs = sum(
        int(np.prod(shapes[name])) * (8 if declared.integer else DTYPE.itemsize)
        for name, declared in graph.inputs.items()
    )
    shapes |= {name: declared.shape for name, declared in layout.declarations.items()}
    owned = lifetimes(steps, shapes, DTYPE, outputs=("loss", "scores"), wrt=("scores",), differentiable=differentiable)
    return inputs + place(list(owned.values()))[1]
