"""The figures by which jobs are compared: metrics of the parameters that are kept, and the latest values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.jobs.schemas import latest_values
from workers.job.metrics import RANKED_BY

if TYPE_CHECKING:
    from service.store.models import Job
    from workers.job.resolve import ResolvedJob


def kept(name: str) -> str:
    """Name of a metric of the parameters that are kept, where the metric's own name stands for the latest value."""
    return f"kept/{name}"


def all_figures(job: Job) -> dict[str, float | None]:
    """The latest value of each series, and the metrics of the parameters that are kept; null if not finite."""
    values = {} if job.kept is None else job.kept["metrics"]
    return latest_values(job.latest_metrics) | {kept(name): value for name, value in values.items()}


def validation_metrics(job: ResolvedJob) -> list[str]:
    """Names of a job's metrics on the validation rows, first that by which its task is ranked; empty without rows."""
    if not job.validation_rows:
        return []
    return sorted(job.metrics.final, key=lambda name: name != RANKED_BY[job.metrics.task])
