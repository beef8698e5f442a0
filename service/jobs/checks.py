"""What several endpoints of jobs check, and how they refuse."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from service.datasets.repository import get_dataset, list_datasets, snapshot_of
from service.http.field_errors import unknown
from service.http.problems import ProblemError, invalid
from workers.data.dataset import DatasetInfo
from workers.job.resolve import FieldProblem, ResolvedJob, resolve

if TYPE_CHECKING:
    from service.http.dependencies import Services
    from service.jobs.schemas import JobRequest
    from service.settings import Settings
    from workers.job.spec import ResourcesSpec


def check_job(spec: JobRequest, services: Services) -> tuple[dict[str, Any], ResolvedJob]:
    """Hold a spec against its dataset and the cluster; the dataset, and what would run on it."""
    dataset = _find_dataset(spec.data.dataset, services)
    resolved = resolve(spec, DatasetInfo.from_json(dataset), services.settings.limits)
    check_cluster_fits(spec.resources, services.settings)
    return dataset, resolved


def _find_dataset(name: str, services: Services) -> dict[str, Any]:
    with services.database.reading() as session:
        dataset = get_dataset(session, name)
        if dataset is None:
            known = (entry.name for entry in list_datasets(session))
            raise invalid(FieldProblem("data.dataset", unknown(name, known, "dataset")))
        return snapshot_of(dataset)


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
