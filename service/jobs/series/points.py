"""Records the points of a job's series, compares points that are recorded twice, and reads series."""

from __future__ import annotations

import math
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import Double, insert, select, type_coerce, update

from service.jobs.events import add_event
from service.jobs.repository import changed, held
from service.store.models import Job, Metric

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy.orm import Session

    from workers.record.events import Series as NewPoints

# Times differ in every run.
EXEMPT_PREFIX = "time/"


class Point(NamedTuple):
    """One value of one series. `time_ms` is when the worker measured it (milliseconds since 1970)."""

    name: str
    step: int
    value: float
    time_ms: int


class Series(NamedTuple):
    """The steps and values of a series, as columns."""

    steps: list[int]
    values: list[float]


def record_points(session: Session, job_id: str, attempt: int, series: Mapping[str, NewPoints]) -> bool:
    """Record points of some series, by name.

    Returns False and records nothing if `attempt` is not the job's current one or the job has ended. Only the first
    value of a (name, step) is stored. A later value must have the same bits (NaN equals NaN). If some differ, one
    `determinism_violation` event has the first of them and their number. Series under "time/" are not compared.
    """
    # The update comes first: it rejects a stale attempt and locks the job's row until the points are written.
    if not changed(session, update(Job).where(*held(job_id, attempt)).values(attempt=attempt)):
        return False
    recorded = _recorded(session, job_id, series)
    fresh: list[dict[str, Any]] = []
    differing: list[dict[str, Any]] = []
    for name, points in series.items():
        columns = points.steps.tolist(), points.values.tolist(), points.times.tolist()
        for step, value, time_ms in zip(*columns, strict=True):
            if (name, step) not in recorded:
                recorded[name, step] = value
                fresh.append({"job_id": job_id, "name": name, "step": step, "value": value, "time_ms": time_ms})
            elif not same(recorded[name, step], value) and not name.startswith(EXEMPT_PREFIX):
                first = repr(recorded[name, step])
                differing.append({"name": name, "step": step, "recorded": first, "recomputed": repr(value)})
    if fresh:
        session.execute(insert(Metric), fresh)
        _update_latest(session, job_id, fresh)
    if differing:
        data = {**differing[0], "differing_points": len(differing)}
        add_event(session, job_id, "determinism_violation", attempt=attempt, data=data)
    return True


def same(first: float, second: float) -> bool:
    """Whether two values have the same bits. NaN equals NaN, and 0.0 equals -0.0, which SQLite stores as 0.0."""
    return first == second or (math.isnan(first) and math.isnan(second))


def read_series(
    session: Session,
    job_id: str,
    *,
    names: Collection[str] = (),
    from_step: int | None = None,
    to_step: int | None = None,
) -> dict[str, Series]:
    """Series of a job, ordered by name and step: all or those in `names`, from `from_step` to `to_step` inclusive."""
    # The column's own type converts each value in Python, which is slow for many points.
    value = type_coerce(Metric.value, Double)
    query = select(Metric.name, Metric.step, value).where(Metric.job_id == job_id)
    if names:
        query = query.where(Metric.name.in_(names))
    if from_step is not None:
        query = query.where(Metric.step >= from_step)
    if to_step is not None:
        query = query.where(Metric.step <= to_step)
    rows = session.execute(query.order_by(Metric.name, Metric.step))
    series: dict[str, Series] = {}
    for name, points in groupby(rows, key=itemgetter(0)):
        _, steps, values = zip(*points, strict=True)
        series[name] = Series(list(steps), [math.nan if value is None else value for value in values])
    return series


def _recorded(session: Session, job_id: str, series: Mapping[str, NewPoints]) -> dict[tuple[str, int], float]:
    """The recorded values of these series, between the first and the last step of the new points."""
    steps = np.concatenate([np.zeros(0, np.int64), *(points.steps for points in series.values())])
    if not steps.size:
        return {}
    query = select(Metric.name, Metric.step, Metric.value).where(
        Metric.job_id == job_id,
        Metric.name.in_(series),
        Metric.step.between(int(steps.min()), int(steps.max())),
    )
    return {(name, step): value for name, step, value in session.execute(query)}


def _update_latest(session: Session, job_id: str, points: Iterable[Mapping[str, Any]]) -> None:
    latest = dict(session.scalars(select(Job.latest_metrics).where(Job.id == job_id)).one())
    for point in points:
        name, step, value = point["name"], point["step"], point["value"]
        if name not in latest or step > latest[name][0]:
            latest[name] = [step, value if math.isfinite(value) else None]
    changed(session, update(Job).where(Job.id == job_id).values(latest_metrics=latest))
