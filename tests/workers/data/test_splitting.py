from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data.splitting import Chunks, epoch_order, split, split_by_value, validation_rows

Labels = np.ndarray[Any, np.dtype[np.int64]]

seeds = st.integers(0, 2**63 - 1)
shares = st.floats(0, 1, exclude_max=True)


@given(st.integers(2, 500), shares, seeds)
def test_split_gives_every_row_to_one_part_in_ascending_order(rows: int, share: float, seed: int) -> None:
    train, validation = split(rows, share, seed)
    assert sorted([*train, *validation]) == list(range(rows))
    assert list(train) == sorted(train)
    assert list(validation) == sorted(validation)
    assert len(validation) == validation_rows(rows, share)
    assert abs(len(validation) - rows * share) <= 0.5


@given(st.integers(2, 200), seeds, st.integers(0, 10**6))
def test_a_seed_fixes_split_and_order(rows: int, seed: int, epoch: int) -> None:
    first, second = split(rows, 0.3, seed), split(rows, 0.3, seed)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    order = epoch_order(first[0], seed, epoch)
    np.testing.assert_array_equal(order, epoch_order(second[0], seed, epoch))
    assert sorted(order) == list(first[0])


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_epochs_and_seeds_differ(seed: int) -> None:
    train, validation = split(100, 0.2, seed)
    orders = {tuple(epoch_order(train, seed, epoch)) for epoch in range(20)}
    assert len(orders) == 20
    assert tuple(train) not in orders
    assert list(validation) != list(split(100, 0.2, seed ^ 1)[1])
    assert list(epoch_order(train, seed, 0)) != list(epoch_order(train, seed ^ 1, 0))


# For 12 rows, a quarter of them for validation, and seed 7.
GOLDEN_VALIDATION = [4, 9, 10]
GOLDEN_ORDERS = [[1, 6, 8, 7, 5, 3, 0, 2, 11], [5, 6, 1, 3, 8, 7, 0, 2, 11]]


def test_the_random_streams_do_not_change() -> None:
    """With other values here, the seeds of existing jobs would no longer reproduce their results."""
    train, validation = split(12, 0.25, 7)
    assert validation.tolist() == GOLDEN_VALIDATION
    assert epoch_order(train, 7, 0).tolist() == GOLDEN_ORDERS[0]
    assert epoch_order(train, 7, 1).tolist() == GOLDEN_ORDERS[1]
    # Drawn directly from the generator. Its key and counter are part of the definition of a job.
    for epoch, golden in enumerate(GOLDEN_ORDERS):
        philox = np.random.Philox(key=np.array([7, 2], np.uint64), counter=np.array([0, 0, 0, epoch], np.uint64))
        assert np.random.Generator(philox).permutation(train).tolist() == golden


labels = st.lists(st.integers(0, 5), min_size=2, max_size=300).map(lambda each: np.array(each, np.int64))


@given(labels, shares, seeds)
def test_a_stratified_split_keeps_the_share_of_each_class(labels: Labels, share: float, seed: int) -> None:
    train, validation = split(len(labels), share, seed, labels)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert list(train) == sorted(train)
    assert list(validation) == sorted(validation)
    count = validation_rows(len(labels), share)
    assert len(validation) == count
    for label in range(6):
        of_class = np.count_nonzero(labels == label) * count / len(labels)
        assert abs(np.count_nonzero(labels[validation] == label) - of_class) < 1


def test_a_stratified_split_is_drawn_by_the_seed() -> None:
    labels = np.arange(90) % 3
    chosen = {tuple(split(90, 0.2, seed, labels)[1]) for seed in range(20)}
    assert len(chosen) == 20
    drawn = np.bincount(np.concatenate([split(90, 0.2, seed, labels)[1] for seed in range(300)]), minlength=90)
    assert drawn.min() > 0.5 * drawn.mean()
    assert drawn.max() < 1.6 * drawn.mean()


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=300),
    st.lists(st.integers(0, 255), max_size=5),
    st.lists(st.integers(0, 255), max_size=5),
)
def test_a_split_by_value_takes_the_rows_of_these_values_in_their_order(
    values: list[int], train: list[int], validation: list[int]
) -> None:
    found = split_by_value(np.array(values, np.uint8), train, validation)
    for rows, named in zip(found, (train, validation), strict=True):
        assert rows.dtype == np.int64
        assert rows.tolist() == [row for row, value in enumerate(values) if value in named]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 10), seeds, st.integers(0, 10**6))
def test_chunks_visit_every_row_once_and_few_chunks_at_a_time(
    rows: int, chunk: int, window: int, seed: int, epoch: int
) -> None:
    train = np.arange(rows) * 3
    order = epoch_order(train, seed, epoch, Chunks(chunk, window))
    assert sorted(order) == list(train)
    np.testing.assert_array_equal(order, epoch_order(train, seed, epoch, Chunks(chunk, window)))
    for start in range(0, rows, chunk * window):
        touched = {row // 3 // chunk for row in order[start : start + chunk * window]}
        assert len(touched) <= window + 1  # a window may begin within a chunk, after one that is not full


def test_chunks_and_their_rows_are_shuffled_differently_in_every_epoch() -> None:
    train = np.arange(1000)
    orders = [epoch_order(train, 3, epoch, Chunks(10, 5)) for epoch in range(20)]
    assert len({tuple(order) for order in orders}) == 20
    assert len({frozenset(order[:50] // 10) for order in orders}) == 20
    # Rows of one chunk do not come one after another.
    assert np.mean([np.count_nonzero(np.diff(order) == 1) for order in orders]) < 50


def test_one_window_over_all_rows_is_a_full_shuffle() -> None:
    """The correlation between the positions of rows in the file and in the order is that of a full shuffle."""
    train = np.arange(2000)
    full = [np.corrcoef(train, epoch_order(train, seed, 0))[0, 1] for seed in range(50)]
    chunks = [np.corrcoef(train, epoch_order(train, seed, 0, Chunks(10, 200)))[0, 1] for seed in range(50)]
    assert np.std(chunks) < 1.5 * np.std(full)


def test_the_random_streams_of_chunks_and_classes_do_not_change() -> None:
    assert epoch_order(np.arange(12), 7, 1, Chunks(2, 3)).tolist() == [3, 6, 7, 8, 2, 9, 5, 10, 0, 11, 1, 4]
    assert split(12, 0.25, 7, np.arange(12) % 2)[1].tolist() == [4, 9, 10]
