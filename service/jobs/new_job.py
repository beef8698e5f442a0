"""The columns of a new job, from its request and what resolving it gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.jobs.figures import validation_metrics
from service.jobs.schemas import BESIDE_SPEC

if TYPE_CHECKING:
    from service.jobs.repository import NewJob
    from service.jobs.schemas import JobRequest
    from workers.job.resolve import ResolvedJob


def spec_json(job: ResolvedJob) -> dict[str, Any]:
    """A resolved spec as JSON."""
    return job.spec.model_dump(mode="json", exclude=set(BESIDE_SPEC))


def new_job(
    request: JobRequest, job: ResolvedJob, *, spec: dict[str, Any], dataset: dict[str, Any], body_sha256: str
) -> NewJob:
    """A job as `create_job` takes it; `spec` is the resolved spec as JSON, `dataset` the snapshot of its dataset."""
    return {
        "spec": spec,
        "labels": request.labels,
        "priority": request.priority,
        "dataset": dataset,
        "total_steps": job.total_steps,
        "task": job.metrics.task,
        "validation_metrics": validation_metrics(job),
        "body_sha256": body_sha256,
    }
