"""What several endpoints of jobs check, and how they refuse."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from service.problems import ProblemError, invalid
from workers.resolve import FieldProblem

if TYPE_CHECKING:
    from service.settings import Settings
    from workers.spec import ResourcesSpec


def check_cluster_fits(resources: ResourcesSpec, settings: Settings) -> None:
    """Raise a problem where a job needs more than the cluster has.

    Without `cluster_cpus` it is not known how many of them that is; without `cluster_gpus` there are none.
    """
    cluster = {"CPU": settings.cluster_cpus, "GPU": settings.cluster_gpus or 0}
    for name, needed in resources.total.items():
        there, per_worker = cluster[name], f"{name.lower()}s_per_worker"
        if there is not None and needed > there:
            message = (
                f"with {per_worker} asks for {needed} {name}s, but the cluster has {there}: workers x {per_worker} "
                f"must be at most {there}"
            )
            raise invalid(FieldProblem("resources.workers" if there else f"resources.{per_worker}", message))


def unknown_job(job_id: str) -> ProblemError:
    """404 for a job that is not there."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"There is no job {job_id!r}; GET /v1/jobs lists the jobs.")
