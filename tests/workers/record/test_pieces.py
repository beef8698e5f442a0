from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.record.events import Ended, Event, Noted, Progress, Series
from workers.record.pieces import EVENT, MOST_POINTS, first_piece, in_pieces, size_of


def series_at(steps: list[int]) -> Series:
    return Series(np.array(steps, np.int64), np.array(steps, np.float64) / 2, np.array(steps, np.int64) + 1000)


def points(series: dict[str, Series]) -> list[tuple[str, int, float, int]]:
    return [
        (name, *point)
        for name, each in series.items()
        for point in zip(each.steps.tolist(), each.values.tolist(), each.times.tolist(), strict=True)
    ]


STEPS = st.sets(st.integers(1, 4000), max_size=40).map(sorted)


@pytest.mark.parametrize("dense", [[], list(range(1, 4001)), list(range(3000, 4001))])
@given(others=st.lists(STEPS, max_size=6))
def test_pieces_have_every_point_once_and_are_small(dense: list[int], others: list[list[int]]) -> None:
    series = {f"series {number}": series_at(steps) for number, steps in enumerate([dense, dense, *others])}
    pieces = [(end, dict(piece)) for end, piece in in_pieces(series, 4000)]
    assert sorted(point for _, piece in pieces for point in points(piece)) == sorted(points(series))
    assert all(size_of(Progress(0, end, piece)) <= MOST_POINTS for end, piece in pieces)
    assert len(pieces) <= 1 + sum(map(len, [dense, dense, *others])) // (MOST_POINTS // 2)
    ends = [end for end, _ in pieces]
    assert ends == sorted(set(ends))
    assert ends[-1] == 4000
    for (end, piece), before in zip(pieces, [0, *ends], strict=False):
        assert all(before < step <= end for _, step, *_ in points(piece)), "a piece's step says what was reported"


def test_the_first_piece_of_many_events() -> None:
    small: list[Event] = [Noted("room", {})] * 1000
    numbered = list(enumerate(small, 1))
    assert first_piece(numbered) == numbered[: MOST_POINTS // EVENT]
    large = Progress(0, 9, {"loss": series_at(list(range(1, 1500)))})
    numbered = list(enumerate([large, large, large, Ended("succeeded", "completed")], 7))
    assert first_piece(numbered) == numbered[:1]
    assert first_piece(numbered[2:]) == numbered[2:], "two events fit together"
    assert first_piece([]) == []


def test_an_event_that_is_too_large_by_itself_is_a_piece() -> None:
    large = Progress(0, 9, {"loss": series_at(list(range(1, 2 * MOST_POINTS)))})
    assert first_piece([(1, large), (2, large)]) == [(1, large)]
