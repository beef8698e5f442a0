"""Cuts events and points into pieces of a bounded size, so that none takes long to send or to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from workers.record.events import Event, Progress, Series

MOST_POINTS = 2_000  # in a piece
EVENT = 20  # points that take about as long to write as an event does in addition to its points


def size_of(event: Event) -> int:
    """The size of an event, in points."""
    points = sum(len(each.steps) for each in event.series.values()) if isinstance(event, Progress) else 0
    return EVENT + points


def first_piece(events: Iterable[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """The first numbered events, as many as `MOST_POINTS` allows, but at least one."""
    piece: list[tuple[int, Event]] = []
    size = 0
    for number, event in events:
        size += size_of(event)
        if piece and size > MOST_POINTS:
            break
        piece.append((number, event))
    return piece


def in_pieces(series: Mapping[str, Series], last_step: int) -> Iterator[tuple[int, Mapping[str, Series]]]:
    """Cut the points up to `last_step` between steps: yields the last step of each piece, and its points.

    As an event, a piece is no larger than `MOST_POINTS`.
    """
    # Up to one point of each series is added, because the points of a step stay together.
    most = max(MOST_POINTS - EVENT - len(series), 1)
    steps = np.sort(np.concatenate([np.zeros(0, np.int64), *(each.steps for each in series.values())]))
    before = -1
    for end in [*(np.unique(steps[most::most]) - 1).tolist(), last_step]:
        piece = {}
        for name, each in series.items():
            rows = (each.steps > before) & (each.steps <= end)
            if rows.any():
                piece[name] = Series(each.steps[rows], each.values[rows], each.times[rows])
        yield end, piece
        before = end
