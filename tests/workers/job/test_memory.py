from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from core import Plan
from tests.service.fixtures.support import hinge_job
from workers.data.dataset import DatasetInfo
from workers.exchange.partition import Partition
from workers.job.computation import Computation
from workers.job.memory import memory_per_worker
from workers.job.resolve import resolve
from workers.job.spec import JobSpec
from workers.machine.arenas import Arenas
from workers.machine.threads import Threads
from workers.training.evaluation import ShardEvaluation
from workers.training.gradients import ShardGradients
from workers.training.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.exchange.messages import Exchange

DATA = DatasetInfo("", "", rows=5000, features=64, classes=tuple("0123456789"))
SLACK = 200_000  # Python's own objects


def allocated(make: Callable[[], object]) -> int:
    """Bytes that are still allocated after a call of `make`, while its result exists."""
    tracemalloc.start()
    try:
        kept = make()
        return tracemalloc.get_traced_memory()[0] if kept is not None else 0
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rows", [128, 1000])
def test_a_plan_takes_the_estimated_memory(rows: int) -> None:
    job = resolve(JobSpec.model_validate(hinge_job(**{"model.layers.0.units": 500})), DATA)
    computation = Computation.of(job.spec, DATA, job.train_rows)
    layout, program = computation.layout, computation.training_program(rows)
    vector = np.zeros(layout.size, np.float32)

    def make() -> Plan:
        return Plan(program, layout=layout, parameters=vector, gradients=vector.copy())

    taken, estimated = allocated(make), program.nbytes + layout.size * 4
    assert abs(taken - estimated) < SLACK
    assert estimated > 2 * SLACK


@pytest.mark.parametrize(
    ("workers", "cpus", "shards", "batch"),
    [(1, 1, 1, 128), (1, 1, 8, 512), (2, 1, 4, 512), (2, 2, 8, 1000)],
)
def test_the_estimated_memory_of_a_worker_is_a_close_upper_bound(
    workers: int, cpus: int, shards: int, batch: int
) -> None:
    changes = {"model.layers.0.units": 2000, "training.shards": shards, "training.batch_size": batch}
    changes |= {"resources.workers": workers, "resources.cpus_per_worker": cpus}
    job = resolve(JobSpec.model_validate(hinge_job(**changes)), DATA)
    computation = Computation.of(job.spec, DATA, job.train_rows)
    layout = computation.layout
    partition = Partition(shards, layout.size, workers)
    owned, threads = range(shards)[partition.rows[0]], Threads(cpus)

    def make() -> object:
        parameters = np.zeros(layout.size, np.float32)
        sums = [np.zeros(layout.size, np.float32) for _ in partition.subtrees[0]]
        others = [np.zeros(layout.size, np.float32) for _ in (*computation.optimizer.slots, "best")]
        arenas = Arenas(nbytes=computation.largest_program(job.validation_rows))
        runtime = Runtime(cast("Exchange", None), threads, arenas)
        rows = np.arange(job.validation_rows)
        evaluation = ShardEvaluation(computation, runtime, parameters, rows, owned)
        gradients = ShardGradients(
            computation,
            owned,
            parameters=parameters,
            sums=sums,
            table=np.zeros((len(owned), computation.training_tallies.stop)),
            threads=threads,
            arenas=arenas,
        )
        return gradients, evaluation, others

    try:
        taken = allocated(make)
    finally:
        threads.close()
    assert taken - SLACK <= memory_per_worker(job, DATA) <= 1.5 * taken
