"""The points of a series that MLflow gets: at most 2,000, however long the job, that draw the curve of all of them.

The steps of a job are cut into buckets that depend on nothing but how many steps it may take. Of each bucket MLflow
gets the first point at once, and the last, the smallest and the largest when the bucket is over: so it never has a
point that would not be chosen in the end, in whatever batches they came and however often somebody began anew. What is
newest can wait for a five-hundredth of the job. In a job of at most 2,000 steps each step is a bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import func, select

from service.jobs.series.points import Point
from service.jobs.series.thinning import FEWEST, turning_points
from service.store.models import Metric
from workers.record.history import MOST_REPORTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from sqlalchemy.orm import Session

    from service.store.models import Job

MOST = 2000  # points of a series; the dashboard becomes slow with more


def bucket_width(total_steps: int) -> int:
    """How many steps a bucket has: bucket k has the steps from k * width + 1 to (k + 1) * width."""
    if total_steps <= MOST:
        return 1
    # A bucket that ends with a step which is reported is over as soon as that has come.
    stride = -(-total_steps // MOST_REPORTED)
    return stride * -(-total_steps // (stride * (MOST // FEWEST)))


def chosen(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], width: int, *, last: bool
) -> npt.NDArray[np.intp]:
    """Indices of the points that MLflow gets, of points in order of step that begin with a bucket.

    Unless the `last` point is the last that there will be, its bucket can go on.
    """
    bucket = (steps - 1) // width
    begins = np.flatnonzero(np.diff(bucket, prepend=-1))
    # MLflow shows what is not finite as a gap: the largest and the smallest are those of the curve beside it.
    finite = np.where(np.isfinite(values), values, np.nan)
    indices = turning_points(finite, np.append(begins, len(steps)))
    goes_on = not last and steps[-1] % width != 0
    told: npt.NDArray[np.intp] = indices[indices <= begins[-1]] if goes_on else indices
    return told


def points_to_tell(session: Session, job: Job, points: Sequence[Point], *, last: bool) -> list[Point]:
    """What MLflow gets after the next `points` of a job, in the order in which they were recorded.

    With the `last` points of the job every bucket is over. What was told before can be told again.
    """
    width = bucket_width(job.total_steps)
    if width == 1:
        return list(points)
    begins: dict[str, int] = {}
    ends = {name: step for name, (step, _) in job.latest_metrics.items()} if last else {}
    for point in points:
        begins.setdefault(point.name, point.step)
        ends[point.name] = point.step
    told = []
    for name, end in ends.items():
        series = Metric.job_id == job.id, Metric.name == name
        before = session.scalar(select(func.max(Metric.step)).where(*series, Metric.step < begins.get(name, end + 1)))
        steps = Metric.step > (before or 0) // width * width, Metric.step <= end
        query = select(Metric.name, Metric.step, Metric.value, Metric.time_ms).where(*series, *steps)
        found = [Point(*row) for row in session.execute(query.order_by(Metric.step))]
        if found:
            columns = np.array([point.step for point in found]), np.array([point.value for point in found])
            told += [found[index] for index in chosen(*columns, width, last=last).tolist()]
    return told
