"""Metrics of training, from the events of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.store.models import now
from service.telemetry.instruments import EXCHANGE_TIME, FIRST_LOSS, STEP_TIME, STEPS
from workers.record.events import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from workers.record.events import Event

# By the series with the duration of an epoch's steps, in milliseconds.
TIMES = {"time/exchange_ms": EXCHANGE_TIME, "time/step_ms": STEP_TIME}


def observe_training(events: Sequence[tuple[int, Event]], before: int, after: int, created_at: datetime) -> None:
    """Observe recorded events of a job, by which its recorded steps went from `before` to `after`.

    Steps that are computed again after a restart are recorded already and do not count.
    """
    STEPS.inc(after - before)
    if before == 0 < after:
        FIRST_LOSS.observe((now() - created_at).total_seconds())
    for _, event in events:
        for name, histogram in TIMES.items():
            if isinstance(event, Progress) and (durations := event.series.get(name)):
                for milliseconds in durations.values.tolist():
                    histogram.observe(milliseconds / 1000)
