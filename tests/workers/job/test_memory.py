from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from core import Plan
from tests.service.fixtures.support import hinge_job
from workers.data.dataset import DatasetInfo
from workers.exchange.partition import Partition
from workers.job.checks.model import Limits
from workers.job.checks.problems import SpecError
from workers.job.computation import Computation
from workers.job.memory import WorkerMemory, memory_per_worker
from workers.job.once import Once
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
        arenas = Arenas(nbytes=computation.largest_program(job.validation_rows).nbytes)
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
    assert taken - SLACK <= job.memory.nbytes <= 1.5 * taken


IMAGES = DatasetInfo("", "", rows=5000, features=784, classes=tuple("0123456789"), dtype="uint8", shape=(28, 28, 1))
NETWORKS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "its weights": ([{"type": "flatten"}, {"type": "linear", "units": 3000, "name": "wide"}], "wide"),
    "its images": ([{"type": "conv2d", "filters": 64, "kernel": 3, "name": "first"}, {"type": "flatten"}], "first"),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_a_job_that_needs_more_memory_than_a_node_has_names_the_layer_that_takes_most(case: str) -> None:
    layers, largest = NETWORKS[case]
    changes = {"model.layers": [*layers, {"type": "linear", "units": 10}], "training.batch_size": 64}
    spec = JobSpec.model_validate(hinge_job(**changes))
    needed = resolve(spec, IMAGES).memory.nbytes
    resolve(spec, IMAGES, Limits(worker_bytes=needed))
    with pytest.raises(SpecError) as caught:
        resolve(spec, IMAGES, Limits(worker_bytes=needed - 1))
    (problem,) = caught.value.problems
    assert problem.field == "model.layers"
    assert f"take {needed:,} bytes" in problem.message
    assert f"{largest!r} takes most" in problem.message


def test_the_memory_of_specs_with_one_model_is_that_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Specs of a sweep share one model; what the memory depends on differs or not."""
    base, once = JobSpec.model_validate(hinge_job()), Once()
    estimated: list[int] = []

    def estimate(*arguments: Any) -> WorkerMemory:
        estimated.append(1)
        return memory_per_worker(*arguments)

    monkeypatch.setattr("workers.job.resolve.memory_per_worker", estimate)
    variants: list[tuple[dict[str, Any], int]] = [
        ({}, 1),
        ({"optimizer.lr": 0.5, "training.seed": 3}, 0),
        ({"training.batch_size": 256}, 1),
        ({"training.shards": 8}, 1),
        ({"resources.cpus_per_worker": 3}, 1),
        ({"data.validation": 0.5}, 1),
        ({"optimizer": {"type": "adam"}}, 1),
    ]
    for changes, expected in variants:
        spec = JobSpec.model_validate(hinge_job(**changes)).model_copy(update={"model": base.model})
        needed = resolve(spec, DATA).memory.nbytes
        estimated.clear()
        resolve(spec, DATA, Limits(worker_bytes=needed), once)
        assert len(estimated) == expected
        with pytest.raises(SpecError, match=f"{needed:,} bytes"):
            resolve(spec, DATA, Limits(worker_bytes=needed - 1), once)
