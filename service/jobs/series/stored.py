"""The stored series of a job, read in pages: each page in a transaction of its own, which ends before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sqlalchemy import Double, select, type_coerce

from service.jobs.series.thinning import thinned
from service.store.models import Job, Metric
from service.store.rows import find_or_404

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from service.jobs.schemas import MetricsQuery
    from service.store import Transactions

PAGE = 8192  # points: about 300 KB as JSON


class Page(NamedTuple):
    """Some points of a series, in order of step; `last` if there are no more."""

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    last: bool


@dataclass(frozen=True)
class StoredSeries:
    """The series of a job that a query asks for; `ends` has the last step of each, by its name.

    Points do not change, and those after `ends` are left out: all pages together are one snapshot.
    """

    database: Transactions
    job_id: str
    query: MetricsQuery
    ends: Mapping[str, int]

    @property
    def names(self) -> list[str]:
        """Names of the series, in order."""
        return list(self.ends)

    def pages(self, name: str) -> Iterator[Page]:
        """The points of a series that are asked for; no page if there are none. A thinned series is one page."""
        if self.query.max_points is None:
            yield from self._pages(name)
            return
        pages = list(self._pages(name))
        if pages:
            steps, values = (np.concatenate([page[column] for page in pages]) for column in (0, 1))
            kept = thinned(values, self.query.max_points)
            yield Page(steps[kept], values[kept], last=True)

    def _pages(self, name: str) -> Iterator[Page]:
        # The column's own type converts each value in Python, which is slow for many points.
        columns = select(Metric.step, type_coerce(Metric.value, Double))
        start, end = self.query.from_step or 0, self.ends[name]
        if self.query.to_step is not None:
            end = min(end, self.query.to_step)
        last = False
        while not last:
            wanted = Metric.job_id == self.job_id, Metric.name == name, Metric.step.between(start, end)
            with self.database.reading() as session:
                rows = session.execute(columns.where(*wanted).order_by(Metric.step).limit(PAGE)).all()
            if not rows:
                return
            steps, values = zip(*rows, strict=True)
            start, last = steps[-1] + 1, len(rows) < PAGE or steps[-1] == end
            yield Page(np.array(steps, np.int64), np.array(values, np.float64), last)  # NaN is stored as null


def stored_series(database: Transactions, job_id: str, query: MetricsQuery) -> StoredSeries:
    """The series of a job that a query asks for, in order of name. Raises NotFoundError if there is no such job."""
    with database.reading() as session:
        latest = find_or_404(session, Job, job_id).latest_metrics
    ends = {name: step for name, (step, _) in sorted(latest.items()) if not query.name or name in query.name}
    return StoredSeries(database, job_id, query, ends)
