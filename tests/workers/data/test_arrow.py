from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data.arrow import array_of, nulls_of, values_of


@given(st.lists(st.floats() | st.none(), max_size=40), st.integers(0, 20), st.integers(0, 40))
def test_any_part_of_an_array_is_read_as_arrow_reads_it(values: list[float | None], start: int, length: int) -> None:
    """Also a part that begins in the middle of a byte of the validity bitmap."""
    part = pa.array(values, pa.float64()).slice(start, length)
    expected = part.to_pylist()
    assert nulls_of(part).tolist() == [value is None for value in expected]
    present = [value for value in expected if value is not None]
    np.testing.assert_array_equal(values_of(part)[~nulls_of(part)], np.array(present, np.float64))


@given(st.lists(st.tuples(st.floats(), st.booleans()), max_size=40))
def test_arrays_are_those_that_arrow_builds(entries: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in entries], np.float64)
    nulls = np.array([null for _, null in entries], np.bool_)
    made = array_of(values, nulls)
    made.validate(full=True)
    np.testing.assert_array_equal(nulls_of(made), nulls)
    assert made.null_count == nulls.sum()
    np.testing.assert_array_equal(values_of(made)[~nulls], values[~nulls])
    np.testing.assert_array_equal(made.to_numpy(zero_copy_only=False)[~nulls], values[~nulls])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_nothing_is_copied(dtype: type[np.generic]) -> None:
    values = np.arange(5, dtype=dtype)
    assert np.shares_memory(values_of(array_of(values)), values)
    assert array_of(values).to_pylist() == [0, 1, 2, 3, 4]
