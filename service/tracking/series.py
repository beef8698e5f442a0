"""Downsampling of a metric's points for MLflow: at most 2,000 per job, which draw the same curve as all of them.

The steps of a job are divided into buckets, which depend only on its maximum number of steps. The first point of a
bucket is exported at once, and its last, smallest and largest point when the bucket is complete. So the exported points
do not depend on batches or restarts. The newest points may be delayed by a five-hundredth of the job. In a job of at
most 2,000 steps, each step is a bucket.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import func, select

from service.jobs.figures import kept
from service.jobs.series.points import Point
from service.jobs.series.thinning import FEWEST, turning_points
from service.store.models import Metric
from service.tracking.mlflow.entries import milliseconds
from workers.job.metrics import epoch_mean
from workers.record.history import MOST_REPORTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from sqlalchemy.orm import Session

    from service.store.models import Job

MOST = 2000  # points per metric; with more, the dashboard is slow


def bucket_width(total_steps: int) -> int:
    """Return the number of steps per bucket. Bucket k has the steps from k * width + 1 to (k + 1) * width."""
    if total_steps <= MOST:
        return 1
    # A multiple of the reporting interval, so that the last step of a bucket is reported.
    stride = -(-total_steps // MOST_REPORTED)
    return stride * -(-total_steps // (stride * (MOST // FEWEST)))


def chosen(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], width: int, *, last: bool
) -> npt.NDArray[np.intp]:
    """Return the indices of the points to export, from points in order of step that start with a bucket.

    `last` says that no more points will follow. Otherwise the last bucket may be incomplete.
    """
    bucket = (steps - 1) // width
    begins = np.flatnonzero(np.diff(bucket, prepend=-1))
    # MLflow shows non-finite values as gaps, so they do not count as largest or smallest.
    finite = np.where(np.isfinite(values), values, np.nan)
    indices = turning_points(finite, np.append(begins, len(steps)))
    goes_on = not last and steps[-1] % width != 0
    complete: npt.NDArray[np.intp] = indices[indices <= begins[-1]] if goes_on else indices
    return complete


def points_to_export(session: Session, job: Job, points: Sequence[Point], *, last: bool) -> list[Point]:
    """Return the points to export after the next recorded `points` of a job, which are in order, by MLflow's names.

    `last` says that no more points will follow, so that all buckets are complete.
    """
    return [point._replace(name=mlflow_name(point.name)) for point in _thinned(session, job, points, last=last)]


def mlflow_name(series: str) -> str:
    """Name in MLflow of a series: `train/<name>` has the means of epochs, and `train/<name>_step` the steps' points."""
    mean = epoch_mean("")
    if series.endswith(mean):
        return series.removesuffix(mean)
    return f"{series}_step" if series.startswith("train/") else series


def kept_points(job: Job) -> list[Point]:
    """Return the metrics of the parameters that are kept as points at their step; none before the end of training."""
    if job.kept is None:
        return []
    time_ms = milliseconds(job.finished_at or job.created_at)
    values = ((name, math.nan if value is None else value) for name, value in job.kept["metrics"].items())
    return [Point(kept(name), job.kept["step"], value, time_ms) for name, value in values]


def _thinned(session: Session, job: Job, points: Sequence[Point], *, last: bool) -> list[Point]:
    width = bucket_width(job.total_steps)
    if width == 1:
        return list(points)
    begins: dict[str, int] = {}
    ends = {name: step for name, (step, _) in job.latest_metrics.items()} if last else {}
    for point in points:
        begins.setdefault(point.name, point.step)
        ends[point.name] = point.step
    exported: list[Point] = []
    for name, end in ends.items():
        series = Metric.job_id == job.id, Metric.name == name
        before = session.scalar(select(func.max(Metric.step)).where(*series, Metric.step < begins.get(name, end + 1)))
        steps = Metric.step > (before or 0) // width * width, Metric.step <= end
        query = select(Metric.name, Metric.step, Metric.value, Metric.time_ms).where(*series, *steps)
        found = [Point(*row) for row in session.execute(query.order_by(Metric.step))]
        if found:
            columns = np.array([point.step for point in found]), np.array([point.value for point in found])
            indices = chosen(*columns, width, last=last).tolist()
            # Earlier points of a bucket that goes on are read again. Its first one has been exported.
            begun = before is not None and found[0].step <= before
            exported += [found[index] for index in indices[begun:]]
    return exported
