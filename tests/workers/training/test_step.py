from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from core import (
    L2,
    SGD,
    AdamW,
    Entry,
    Graph,
    Hinge,
    Linear,
    Multipliers,
    NormClipping,
    Optimizer,
    ParameterLayout,
    Plan,
    Program,
    ReLU,
    Step,
    aligned_zeros,
    build_classifier,
    initialize,
    registered,
    with_loss,
)
from tests.workers.fixtures.helpers import instances
from workers.data.rows import Batch, Batches
from workers.exchange.control import Command
from workers.exchange.messages import KEY_BYTES, Exchange, Membership
from workers.exchange.partition import SEGMENT
from workers.job.computation import Computation
from workers.machine.threads import Threads
from workers.training.runtime import Runtime
from workers.training.step import DistributedStep, StepResult
from workers.training.update import sum_squares_by_segment

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Vector = np.ndarray[Any, np.dtype[np.float32]]

MAX_SEGMENTS = 40
seeds = st.integers(0, 2**32)
# The boundaries of a vector's slices: multiples of SEGMENT, except for the end.
cuts = st.tuples(st.integers(1, MAX_SEGMENTS * SEGMENT), st.sets(st.integers(1, MAX_SEGMENTS))).map(
    lambda drawn: [0, *(cut * SEGMENT for cut in sorted(drawn[1]) if cut * SEGMENT < drawn[0]), drawn[0]]
)


def random_vector(size: int, seed: int) -> Vector:
    random = np.random.default_rng(seed)
    vector = aligned_zeros((size,), np.float32)
    vector[:] = random.standard_normal(size) * 10.0 ** random.integers(-3, 3, size)
    return vector


def squares_of(vector: Vector, ends: Sequence[int]) -> Vector:
    out = np.zeros(-(-vector.size // SEGMENT), np.float32)
    for start, stop in pairwise(ends):
        sum_squares_by_segment(vector[start:stop], out[start // SEGMENT : -(-stop // SEGMENT)])
    return out


@given(cuts, seeds)
def test_sums_of_squares_do_not_depend_on_cuts(ends: list[int], seed: int) -> None:
    vector = random_vector(ends[-1], seed)
    whole = squares_of(vector, [0, ends[-1]])
    assert squares_of(vector, ends).tobytes() == whole.tobytes()
    blocks = [vector[start : start + SEGMENT].astype(np.float64) for start in range(0, vector.size, SEGMENT)]
    np.testing.assert_allclose(whole, [(block**2).sum() for block in blocks], rtol=1e-4)


def test_sums_of_squares_of_nothing() -> None:
    sum_squares_by_segment(np.zeros(0, np.float32), np.zeros(0, np.float32))


def test_sums_over_other_blocks_have_other_bits() -> None:
    """Shows that the test above can fail: with these two values it does, in any order of the additions."""
    vector = aligned_zeros((2 * SEGMENT,), np.float32)
    vector[0], vector[SEGMENT // 2] = 2**12, 1
    total = squares_of(vector, [0, vector.size]).sum(dtype=np.float64)
    assert total == 2**24, "float32 cannot represent 2^24 + 1"
    first, middle, last = vector[: SEGMENT // 2], vector[SEGMENT // 2 : -SEGMENT // 2], vector[-SEGMENT // 2 :]
    shifted = [squares_of(part, [0, part.size]).sum(dtype=np.float64) for part in (first, middle, last)]
    assert sum(shifted) == 2**24 + 1


@pytest.mark.parametrize("name", registered("optimizer"))
@given(st.data(), cuts, seeds)
def test_an_optimizer_gives_the_same_bits_on_any_slices(
    name: str, data: st.DataObject, ends: list[int], seed: int
) -> None:
    optimizer = data.draw(instances(registered("optimizer")[name]))
    assert isinstance(optimizer, Optimizer)
    rate = 0.01

    def updated(ends: list[int]) -> list[bytes]:
        parameters = random_vector(ends[-1], seed)
        state = {slot: np.abs(random_vector(ends[-1], seed + 1)) for slot in optimizer.slots}
        gradients, scratch = random_vector(ends[-1], seed + 2), np.empty(ends[-1], np.float32)
        for start, stop in pairwise(ends):
            part = slice(start, stop)
            slots = {slot: vector[part] for slot, vector in state.items()}
            optimizer.update(np, parameters[part], gradients[part], slots, scratch, Step(rate, 2))
        return [vector.tobytes() for vector in (parameters, *state.values())]

    assert updated(ends) == updated([0, ends[-1]])


@given(st.floats(1e-6, 10), cuts, seeds)
def test_the_penaltys_gradient_gives_the_same_bits_on_any_slices(weight: float, ends: list[int], seed: int) -> None:
    parameters = random_vector(ends[-1], seed)

    def added(ends: list[int]) -> Vector:
        gradients, scratch = random_vector(ends[-1], seed + 1), np.empty(ends[-1], np.float32)
        for start, stop in pairwise(ends):
            L2(weight).add_gradient(np, parameters[start:stop], gradients[start:stop], scratch[start:stop])
        return gradients

    whole = added([0, ends[-1]])
    assert added(ends).tobytes() == whole.tobytes()
    expected = random_vector(ends[-1], seed + 1).astype(np.float64) + 2 * weight * parameters.astype(np.float64)
    scale = np.abs(parameters) * weight + np.abs(whole)
    assert (np.abs(whole - expected) <= 1e-6 * scale).all()


ROWS, FEATURES, CLASSES, BATCH_SIZE, SHARDS = 120, 30, 3, 50, 7
COMMANDS = [Command.NONE, Command.STOP, Command.STOP | Command.CHECKPOINT]


Multiplied = tuple[dict[str, Multipliers] | None, dict[str, Multipliers] | None]


def data() -> tuple[Vector, np.ndarray[Any, np.dtype[np.int64]], list[np.ndarray[Any, np.dtype[np.int64]]]]:
    """The rows, their labels, and the rows of each of four batches."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    labels = random.integers(0, CLASSES, ROWS)
    return rows, labels, [random.permutation(ROWS)[:BATCH_SIZE] for _ in range(4)]


def classifier(hidden: int, multipliers: Multiplied) -> Graph:
    first, last = multipliers
    layers = [Entry(Linear(units=hidden), multipliers=first), ReLU(), Entry(Linear(units=CLASSES), multipliers=last)]
    return with_loss(build_classifier(layers, FEATURES), Hinge())


def steps(
    workers: int,
    threads: int,
    hidden: int,
    optimizer: Optimizer,
    unshared: Collection[tuple[int, int]] = (),
    multipliers: Multiplied = (None, None),
) -> tuple[list[StepResult], bytes, list[bytes]]:
    """Four steps of a classifier: their results, the parameters after them, and the optimizer's gathered state.

    `unshared` are pairs of workers, of which the first cannot open the memory of the second. `multipliers` are those of
    the two linear layers.
    """
    rows, labels, orders = data()
    batches = Batches(rows, labels, scaling=None)
    graph = classifier(hidden, multipliers)
    computation = Computation(
        graph,
        "classification",
        ParameterLayout(graph.parameters()),
        optimizer,
        L2(0.01),
        NormClipping(0.5),
        seed=9,
        shards=SHARDS,
        batch_sizes=frozenset({BATCH_SIZE}),
    )
    key = secrets.token_bytes(KEY_BYTES)
    exchanges = [Exchange(Membership(rank, workers, 1, key), "127.0.0.1", 30) for rank in range(workers)]
    addresses = [exchange.address for exchange in exchanges]
    without_memory = [replace(address, memory=None) for address in addresses]

    def work(rank: int) -> tuple[list[StepResult], bytes, list[bytes]]:
        with exchanges[rank] as exchange:
            exchange.connect(
                [(without_memory if (rank, owner) in unshared else addresses)[owner] for owner in range(workers)]
            )
            pool = Threads(threads)
            step = DistributedStep(computation, Runtime(exchange, pool))
            results = [
                # Each worker gives another command; only the leader's has an effect.
                step.run(Batch(batches, rows, 0, number), 0.1, command=COMMANDS[(rank + number) % len(COMMANDS)])
                for number, rows in enumerate(orders, start=1)
            ]
            step.gather_state(len(orders))
            pool.close()
        return results, step.parameters.tobytes(), [vector.tobytes() for vector in step.state.values()]

    # Use all threads, although the model is small.
    share = patch("workers.training.gradients.SMALLEST_SHARE", 1)
    with threadpool_limits(1), share, ThreadPoolExecutor(workers) as pool:
        first, *others = pool.map(work, range(workers))
    assert all(other == first for other in others), "the workers of one job have different results"
    return first


@cache
def alone(hidden: int, optimizer: Optimizer) -> tuple[list[StepResult], bytes, list[bytes]]:
    return steps(1, 1, hidden, optimizer)


@pytest.mark.parametrize("hidden", [5, 300])
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.5), AdamW(weight_decay=0.1)], ids=str)
def test_every_worker_ends_with_the_bits_of_a_single_worker(hidden: int, optimizer: Optimizer) -> None:
    expected = alone(hidden, optimizer)
    assert len({result.data_loss for result in expected[0]}) == 4
    assert [result.command for result in expected[0]] == [COMMANDS[number % len(COMMANDS)] for number in range(1, 5)]
    assert any(expected[2][0])
    for workers, threads in [(1, 3), (2, 1), (3, 2), (5, 1), (7, 1)]:
        assert steps(workers, threads, hidden, optimizer) == expected, f"{workers} workers of {threads} threads"


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([5, 300]),
    st.integers(2, SHARDS).flatmap(
        lambda workers: st.tuples(
            st.just(workers), st.sets(st.tuples(st.integers(0, workers - 1), st.integers(0, workers - 1)))
        )
    ),
    st.integers(1, 2),
)
def test_no_bit_depends_on_which_workers_share_memory(
    hidden: int, group: tuple[int, set[tuple[int, int]]], threads: int
) -> None:
    workers, unshared = group
    optimizer = SGD(momentum=0.5)
    assert steps(workers, threads, hidden, optimizer, unshared) == alone(hidden, optimizer)


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_no_bit_changes_without_shared_memory(workers: int) -> None:
    every_pair = set(product(range(workers), repeat=2))
    optimizer = AdamW(weight_decay=0.1)
    assert steps(workers, 1, 300, optimizer, every_pair) == alone(300, optimizer)


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (1, 3), (2, 2)])
def test_no_bit_depends_on_the_blocks_of_an_update(workers: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = SGD(momentum=0.5)
    expected = alone(300, optimizer)
    monkeypatch.setattr("workers.training.update.BLOCK", SEGMENT)
    monkeypatch.setattr("workers.training.gradients.BLOCK", SEGMENT)
    assert steps(workers, threads, 300, optimizer) == expected


CAFFE: Multiplied = (
    {"bias": Multipliers(learning_rate=2, decay=0)},
    {"weight": Multipliers(learning_rate=10, decay=3), "bias": Multipliers(learning_rate=20, decay=1)},
)
FROZEN: Multiplied = (
    {"weight": Multipliers(learning_rate=0), "bias": Multipliers(decay=0.5)},
    {"weight": Multipliers(decay=0), "bias": Multipliers(learning_rate=0)},
)
EVERY_MULTIPLIER = pytest.mark.parametrize("multipliers", [CAFFE, FROZEN], ids=["caffe", "frozen"])
OPTIMIZERS = pytest.mark.parametrize(
    "optimizer", [SGD(momentum=0.5), AdamW(weight_decay=0.1, epsilon=1e-3)], ids=["sgd", "adamw"]
)


@EVERY_MULTIPLIER
@OPTIMIZERS
def test_multipliers_as_the_formulas_have_them(optimizer: Optimizer, multipliers: Multiplied) -> None:
    """The whole batch at once, in float64, parameter by parameter."""
    rows, labels, orders = data()
    graph = classifier(5, multipliers)
    plan = Plan(Program.compile(graph, ("loss",), batch=BATCH_SIZE, dtype=np.float64))
    plan.parameters[:] = initialize(plan.layout, 9)
    weights, slopes = plan.layout.views(plan.parameters), plan.layout.views(plan.gradients)
    given = {f"{layer}.{name}": each for layer, of in zip(("0_linear", "scores"), multipliers, strict=True)
             for name, each in (of or {}).items()}  # fmt: skip
    rates = {name: given[name].learning_rate if name in given else 1.0 for name in weights}
    decays = {name: 1.0 if name.endswith("weight") else 0.0 for name in weights}
    decays |= {name: each.decay for name, each in given.items() if each.decay is not None}
    first = {name: np.zeros_like(weight) for name, weight in weights.items()}
    second = {name: np.zeros_like(weight) for name, weight in weights.items()}
    figures = []
    for number, order in enumerate(orders, start=1):
        plan.inputs["features"][...], plan.inputs["labels"][...] = rows[order], labels[order]
        plan.forward()
        plan.backward({"loss": 1 / BATCH_SIZE})
        penalty = sum(0.01 * decays[name] * (weight**2).sum() for name, weight in weights.items())
        gradients = {name: slopes[name] + 0.02 * decays[name] * weight for name, weight in weights.items()}
        norm = np.sqrt(sum((gradients[name] ** 2).sum() for name in weights if rates[name] > 0))
        figures.append((plan.value("loss").mean(), penalty, norm))
        for name, weight in weights.items():
            gradient, rate = gradients[name] * min(1, 0.5 / norm), 0.1 * rates[name]
            if isinstance(optimizer, SGD):
                first[name][...] = 0.5 * first[name] + gradient
                weights[name][...] -= rate * first[name]
            else:
                first[name][...] = 0.9 * first[name] + 0.1 * gradient
                second[name][...] = 0.999 * second[name] + 0.001 * gradient**2
                root = np.sqrt(second[name] / (1 - 0.999**number)) + 1e-3
                change = first[name] / (1 - 0.9**number) / root
                weights[name][...] = weight * (1 - rate * 0.1 * decays[name]) - rate * change
    results, parameters, _ = steps(1, 1, 5, optimizer, multipliers=multipliers)
    found = [(result.data_loss, result.penalty, result.gradient_norm) for result in results]
    np.testing.assert_allclose(found, figures, rtol=1e-5)
    trained = plan.layout.views(np.frombuffer(parameters, np.float32))
    start = plan.layout.views(initialize(plan.layout, 9))
    for name, weight in weights.items():
        np.testing.assert_allclose(trained[name], weight, rtol=1e-4, atol=1e-5, err_msg=name)
        assert (trained[name].tobytes() == start[name].tobytes()) == (rates[name] == 0)


@EVERY_MULTIPLIER
@OPTIMIZERS
def test_with_multipliers_every_worker_ends_with_the_bits_of_a_single_worker(
    optimizer: Optimizer, multipliers: Multiplied, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = steps(1, 1, 300, optimizer, multipliers=multipliers)
    assert expected[1] != alone(300, optimizer)[1]
    for workers, threads in [(1, 3), (2, 1), (3, 2), (7, 1)]:
        assert steps(workers, threads, 300, optimizer, multipliers=multipliers) == expected
    monkeypatch.setattr("workers.training.update.BLOCK", SEGMENT)
    assert steps(2, 2, 300, optimizer, multipliers=multipliers) == expected


def test_multipliers_of_1_change_no_bit() -> None:
    every = {"weight": Multipliers(decay=1), "bias": Multipliers()}
    assert steps(2, 1, 300, SGD(momentum=0.5), multipliers=(every, every)) == alone(300, SGD(momentum=0.5))
