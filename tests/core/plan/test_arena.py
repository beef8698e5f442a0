from bisect import insort

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.plan.arena import Lifetime, place
from tests.fixtures.lines import lines_run

FLOAT = np.dtype(np.float32)


def placed_one_by_one(lifetimes):
    """The same places by comparing each array with all others."""
    offsets, sizes = [0] * len(lifetimes), [array.size for array in lifetimes]
    placed = []  # in order of offset
    for index in sorted(range(len(lifetimes)), key=lambda index: (-sizes[index], lifetimes[index].first)):
        array, size, offset = lifetimes[index], sizes[index], 0
        for other in placed:
            there = lifetimes[other]
            if there.first <= array.last and array.first <= there.last:
                if offset + size <= offsets[other]:
                    break
                offset = max(offset, offsets[other] + sizes[other])
        offsets[index] = offset
        insort(placed, index, key=offsets.__getitem__)
    return offsets, max((offsets[index] + sizes[index] for index in placed), default=0)


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 20), st.integers(0, 20)).map(
            lambda drawn: Lifetime((drawn[0],), FLOAT, min(drawn[1:]), max(drawn[1:]))
        ),
        max_size=60,
    )
)
def test_each_array_lies_at_the_lowest_free_offset(lifetimes):
    assert place(lifetimes) == placed_one_by_one(lifetimes)


def chain(nodes, contributions):
    """Values that all live to the end, and arrays that a backward pass uses at one step."""
    values = [Lifetime((100,), FLOAT, time, 2 * nodes) for time in range(nodes)]
    return values + [
        Lifetime((50,), FLOAT, nodes + time, nodes + time) for time in range(nodes) for _ in range(contributions)
    ]


@pytest.mark.parametrize("contributions", [1, 64])
def test_the_time_grows_with_the_number_of_arrays(contributions):
    one, two = chain(40, contributions), chain(80, contributions)
    assert lines_run(lambda: place(two)) < 3 * lines_run(lambda: place(one))
