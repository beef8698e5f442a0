from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import (
    SGD,
    Linear,
    ParameterLayout,
    Plan,
    Program,
    ReLU,
    SoftmaxCrossEntropy,
    aligned_zeros,
    build_classifier,
    initialize,
    with_loss,
)
from workers.data.rows import Batch, Batches
from workers.data.splitting import split_evenly
from workers.exchange.tree import complete_subtrees
from workers.exchange.vectors import FIRST_COLUMNS
from workers.job.computation import Computation
from workers.machine.arenas import Arenas
from workers.machine.device import HOST
from workers.machine.threads import Threads
from workers.training.gradients import ShardGradients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.exchange.tree import Subtree
    from workers.exchange.vectors import Table

FEATURES, CLASSES, ROWS = 6, 3, 40
GRAPH = with_loss(build_classifier([Linear(units=5), ReLU(), Linear(units=CLASSES)], FEATURES), SoftmaxCrossEntropy())
LAYOUT = ParameterLayout(GRAPH.parameters())
PARAMETERS = initialize(LAYOUT, seed=1)
RANDOM = np.random.default_rng(0)
DATA = Batches(RANDOM.normal(size=(ROWS, FEATURES)).astype(np.float32), RANDOM.integers(0, CLASSES, ROWS), scaling=None)
COLUMNS = FIRST_COLUMNS + 1  # the accuracy
BATCH = Batch(DATA, RANDOM.permutation(ROWS)[:37], 0, 1)

WORK = GRAPH.multiply_adds(37)

Vector = np.ndarray[Any, np.dtype[np.float32]]


class Recorder(Threads):
    """Threads that record how many of them the last call used."""

    used = 0

    def run(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        self.used = len(items)
        super().run(work, items)


def gradients(
    owned: range, table: Table, threads: Threads, arenas: Arenas | None = None
) -> tuple[ShardGradients, list[Subtree], list[Vector]]:
    shards = len(table)
    subtrees = complete_subtrees(owned, shards)
    sums = [aligned_zeros((LAYOUT.size,), np.float32) for _ in subtrees]
    computation = Computation(
        GRAPH,
        "classification",
        LAYOUT,
        SGD(),
        penalty=None,
        clipping=None,
        seed=1,
        shards=shards,
        batch_sizes=frozenset({len(BATCH.rows), 1}),
    )
    local = ShardGradients(
        computation,
        owned,
        parameters=PARAMETERS,
        sums=sums,
        table=table[owned.start : owned.stop],
        threads=threads,
        arenas=arenas or Arenas(),
    )
    return local, subtrees, sums


def tree_sum(subtree: Subtree, shards: int) -> Vector:
    """The sum along the tree, with a separate plan for each shard."""
    if not subtree.is_leaf:
        left, right = (tree_sum(child, shards) for child in subtree.children())
        return left + right
    cut = split_evenly(len(BATCH.rows), shards)[subtree.start]
    plan = Plan(Program.compile(GRAPH, ("loss",), batch=len(cut)), layout=LAYOUT, parameters=PARAMETERS)
    DATA.load(BATCH.rows[cut.start : cut.stop], HOST.rows(plan))
    plan.forward()
    plan.backward({"loss": 1.0})
    return plan.gradients


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 24), st.integers(1, 3))
def test_the_sums_of_each_step_are_those_of_the_tree(data: st.DataObject, shards: int, threads: int) -> None:
    start = data.draw(st.integers(0, shards - 1))
    owned = range(start, data.draw(st.integers(start + 1, shards)))
    table = np.zeros((shards, COLUMNS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)
        patch.setattr("workers.training.gradients.BLOCK", 16)
        pool = Recorder(threads)
        local, subtrees, sums = gradients(owned, table, pool)
    expected = [tree_sum(subtree, shards).tobytes() for subtree in subtrees]
    for _ in range(2):
        local.compute(BATCH)
        assert pool.used == min(threads, len(owned))
        local.join()
        assert [total.tobytes() for total in sums] == expected
        for total in sums:
            np.multiply(total, 0.3, out=total)  # as an update changes its gradients in place
    assert not table[: owned.start].any()
    assert table[owned.start : owned.stop].any()
    assert not table[owned.stop :].any()
    pool.close()


@pytest.mark.parametrize(("share", "used"), [(WORK, 1), (WORK // 2, 2), (1, 3)])
def test_small_models_are_computed_on_few_threads(monkeypatch: pytest.MonkeyPatch, share: int, used: int) -> None:
    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", share)
    threads = Recorder(3)
    local, _, _ = gradients(range(4), np.zeros((4, COLUMNS)), threads)
    local.compute(BATCH)
    assert threads.used == used
    threads.close()


def test_the_plans_of_a_thread_share_one_block_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 shards of 2 or 3 rows, or of 0 or 1: 5 buffers of gradients, and plans for each number of rows."""
    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)
    sizes: list[int] = []

    def allocate(shape: tuple[int], *options: Any) -> Vector:
        sizes.append(shape[0])
        return aligned_zeros(shape, *options)

    monkeypatch.setattr("workers.machine.arenas.aligned_zeros", allocate)
    monkeypatch.setattr("core.plan.plan.aligned_zeros", lambda *_: pytest.fail("a plan has memory of its own"))
    largest = Program.compile(GRAPH, ("loss", "scores"), batch=3, wrt=("scores",)).nbytes
    for count in (1, 2):
        sizes.clear()
        threads, arenas = Threads(count), Arenas()
        local, _, _ = gradients(range(16), np.zeros((16, COLUMNS)), threads, arenas)
        local.compute(BATCH)
        assert sizes == [largest] * count
        gradients(range(16), np.zeros((16, COLUMNS)), threads, arenas)
        assert sizes == [largest] * count, "the blocks are those of the first"
        threads.close()
