from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.fixtures.helpers import EPOCH_SERIES, STEP_SERIES, history_of
from workers.record.history import MOST_REPORTED, is_reported, schema_of, thinned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.record.events import Series
    from workers.record.history import Table

Points = dict[str, list[tuple[int, float]]]

FLOATS = st.floats(width=64)


def points_of_series(series: Mapping[str, Series]) -> Points:
    return {name: list(zip(each.steps.tolist(), each.values.tolist(), strict=True)) for name, each in series.items()}


def points_of_table(table: Table) -> Points:
    points: Points = {}
    for row in table.to_pylist():
        for name in STEP_SERIES + EPOCH_SERIES:
            if row[name] is not None:
                points.setdefault(name, []).append((row["step"], row[name]))
    return points


def assert_same(found: Points, expected: Points) -> None:
    """Assert that points are equal, where NaN equals NaN."""
    assert set(found) == set(expected)
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points]
        np.testing.assert_array_equal([value for _, value in found[name]], [value for _, value in points])


def values_of(step: int) -> tuple[float, ...]:
    return tuple(step + column / 10 for column in range(len(STEP_SERIES)))


class Model:
    """A reference for `History`: for each of the two consumers, the list of points that it has not received yet."""

    def __init__(self, start: int, total_steps: int) -> None:
        self.stride, self.total_steps = math.ceil(total_steps / MOST_REPORTED), total_steps
        self.step = start
        self._unreported: list[tuple[str, int, float]] = []
        self._unkept: list[tuple[str, int, float]] = []

    def record(self, name: str, value: float) -> None:
        self._unkept.append((name, self.step, value))
        if name in EPOCH_SERIES or self.step in {1, self.total_steps} or self.step % self.stride == 0:
            self._unreported.append((name, self.step, value))

    def unreported(self) -> Points:
        taken, self._unreported = self._unreported, []
        return by_name(taken)

    def unkept(self) -> Points:
        taken, self._unkept = self._unkept, []
        return by_name(taken)


def by_name(points: list[tuple[str, int, float]]) -> Points:
    found: Points = {}
    for name, step, value in points:
        found.setdefault(name, []).append((step, value))
    return found


SMALL_PAGE = 8
ACTIONS = st.one_of(
    st.integers(1, 3 * SMALL_PAGE),
    st.dictionaries(st.sampled_from(EPOCH_SERIES), FLOATS),
    st.sampled_from(["unreported", "unkept"]),
)


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.record.history.PAGE", SMALL_PAGE)
        yield


@given(st.integers(0, 9_900), st.sampled_from([10_000, 70_000, 1_000_000]), st.lists(ACTIONS, max_size=12), FLOATS)
def test_each_consumer_receives_each_point_once(
    start: int, total_steps: int, actions: list[int | dict[str, float] | str], loss: float
) -> None:
    history, model = history_of(start, total_steps), Model(start, total_steps)
    for action in [*actions, "unreported", "unkept", "unreported", "unkept"]:
        if isinstance(action, int):
            for _ in range(min(action, total_steps - model.step)):
                model.step += 1
                values = (loss, *values_of(model.step)[1:])
                history.record_step(model.step, values)
                for name, value in zip(STEP_SERIES, values, strict=True):
                    model.record(name, value)
        elif isinstance(action, dict):
            if model.step == total_steps:
                continue
            model.step += 1
            history.record_step(model.step, values_of(model.step))
            history.record_epoch(action)
            for name, value in [*zip(STEP_SERIES, values_of(model.step), strict=True), *action.items()]:
                model.record(name, value)
        elif action == "unreported":
            assert_same(points_of_series(history.unreported()), model.unreported())
        else:
            table = history.unkept()
            assert table.schema == schema_of(STEP_SERIES + EPOCH_SERIES)
            assert_same(points_of_table(table), model.unkept())


@given(st.integers(1, 3 * MOST_REPORTED) | st.integers(1, 500_000))
def test_the_reported_steps_are_bounded_and_include_both_ends(total_steps: int) -> None:
    stride = history_of(0, total_steps).stride
    steps = np.arange(1, total_steps + 1)
    chosen = steps[is_reported(steps, stride, total_steps)]
    assert len(chosen) <= MOST_REPORTED + 2
    assert (chosen[0], chosen[-1]) == (1, total_steps)
    assert np.diff(chosen).max(initial=0) <= stride
    if total_steps <= MOST_REPORTED:
        assert len(chosen) == total_steps
    else:
        assert len(chosen) >= MOST_REPORTED / 2


@given(st.integers(1, 100_000), st.lists(st.integers(1, 100_000), max_size=5))
def test_the_reported_steps_do_not_depend_on_the_times_of_the_reports(total_steps: int, cuts: list[int]) -> None:
    """A resumed job reports the same steps as an undisturbed one."""
    stride = history_of(0, total_steps).stride
    steps = np.arange(1, total_steps + 1)
    parts = np.split(steps, sorted(min(cut, total_steps) for cut in cuts))
    chosen = np.concatenate([part[is_reported(part, stride, total_steps)] for part in parts])
    np.testing.assert_array_equal(chosen, steps[is_reported(steps, stride, total_steps)])


def test_points_of_epochs_are_all_reported() -> None:
    total_steps = 100 * MOST_REPORTED
    history = history_of(0, total_steps)
    for step in range(1, 2000):
        history.record_step(step, values_of(step))
        if step % 7 == 0:
            history.record_epoch({"val/loss": 1 / step})
    points = points_of_series(history.unreported())
    assert [step for step, _ in points["train/loss"]] == [1, *range(100, 2000, 100)]
    assert points["val/loss"] == [(step, 1 / step) for step in range(7, 2000, 7)]
    assert "val/accuracy" not in points


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_point(value: float) -> None:
    history = history_of(0, 2)
    history.record_step(1, (value,) * len(STEP_SERIES))
    history.record_epoch(dict.fromkeys(EPOCH_SERIES, value))
    expected = {name: [(1, value)] for name in STEP_SERIES + EPOCH_SERIES}
    table = history.unkept()
    assert_same(points_of_series(history.unreported()), expected)
    assert_same(points_of_table(table), expected)
    assert_same(points_of_series(thinned(table, 1, 2)), expected)


def test_points_that_both_consumers_have_received_are_deleted() -> None:
    """A long job needs memory only for the points between two checkpoints."""
    history = history_of(0, 100 * SMALL_PAGE)
    for step in range(1, 20 * SMALL_PAGE + 1):
        history.record_step(step, values_of(step))
        if step % SMALL_PAGE == 0:
            history.record_epoch({"val/loss": 0.0})
            history.unreported()
    assert len(history._pages) == 20
    assert len(history._epochs) == 20
    assert history.unkept().num_rows == 20 * SMALL_PAGE
    assert len(history._pages) == 1
    assert history._epochs == {}


def test_a_point_keeps_the_time_at_which_it_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5_000_000_123, 7_999_999_999, 9_000_000_000])
    monkeypatch.setattr("workers.record.history.time.time_ns", lambda: next(clock))
    history = history_of(10, 100)
    for step in (11, 12):
        history.record_step(step, values_of(step))
    assert history.unreported()["train/loss"].times.tolist() == [5000, 7999]
    history.record_step(13, values_of(13))
    assert history.unkept().column("time_ms").to_pylist() == [5000, 7999, 9000]


def test_types_are_those_of_the_schema() -> None:
    history = history_of(0, 5)
    history.record_step(1, values_of(1))
    series = history.unreported()["grad/norm"]
    assert (series.steps.dtype, series.values.dtype, series.times.dtype) == (np.int64, np.float64, np.int64)
    assert {field.type for field in history.unkept().schema} == {pa.int64(), pa.float64()}
