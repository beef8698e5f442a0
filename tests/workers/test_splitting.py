from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.splitting import epoch_order, split, validation_rows

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


def test_the_streams_are_those_of_every_job_before() -> None:
    """Other values here mean other results of every job that there ever was: its seed would no longer repeat it."""
    train, validation = split(12, 0.25, 7)
    assert validation.tolist() == GOLDEN_VALIDATION
    assert epoch_order(train, 7, 0).tolist() == GOLDEN_ORDERS[0]
    assert epoch_order(train, 7, 1).tolist() == GOLDEN_ORDERS[1]
    # Drawn straight from the generator whose key and counter the format of a job fixes.
    for epoch, golden in enumerate(GOLDEN_ORDERS):
        philox = np.random.Philox(key=np.array([7, 2], np.uint64), counter=np.array([0, 0, 0, epoch], np.uint64))
        assert np.random.Generator(philox).permutation(train).tolist() == golden
