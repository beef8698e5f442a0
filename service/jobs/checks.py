"""Checks of a job against its dataset and the cluster, made before the job is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.datasets.repository import find_dataset, snapshot_of
from service.errors import InvalidError, NotFoundError
from workers.data.dataset import DatasetInfo
from workers.job.resolve import FieldProblem, ResolvedJob, resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from service.http.dependencies import Services
    from service.jobs.schemas import JobRequest, ResourcesChange
    from service.settings import Settings
    from service.store.models import Job
    from workers.job.spec import ResourcesSpec


def check_job(spec: JobRequest, services: Services) -> tuple[dict[str, Any], ResolvedJob]:
    """Check a spec against its dataset and the cluster; returns the dataset and the resolved job.

    Raises InvalidError or SpecError, which name the fields that are wrong.
    """
    with services.database.reading() as session:
        try:
            dataset = snapshot_of(find_dataset(session, spec.data.dataset))
        except NotFoundError as error:
            raise InvalidError(FieldProblem("data.dataset", str(error))) from None
    resolved = resolve(spec, DatasetInfo.from_json(dataset), services.settings.limits)
    _check_cluster_fits(spec.resources, services.settings)
    return dataset, resolved


def checked_resources(job: Job, change: ResourcesChange, settings: Settings) -> ResourcesSpec:
    """The resources of a job after a change.

    Raises InvalidError or SpecError where the job cannot run on them.
    """
    resources = {**job.spec["resources"], **change.model_dump(exclude_none=True)}
    spec = JobSpec.model_validate({**job.spec, "resources": resources})
    resolved = resolve(spec, DatasetInfo.from_json(job.dataset), settings.limits).spec.resources
    _check_cluster_fits(resolved, settings)
    return resolved


def _check_cluster_fits(resources: ResourcesSpec, settings: Settings) -> None:
    """Raise InvalidError where a job needs more than the cluster has.

    Without `cluster_cpus` the number of CPUs is unknown; without `cluster_gpus` there are no GPUs.
    """
    cluster = {"CPU": settings.cluster_cpus, "GPU": settings.cluster_gpus or 0}
    for name, needed in resources.total.items():
        available, per_worker = cluster[name], f"{name.lower()}s_per_worker"
        if available is not None and needed > available:
            message = (
                f"with {per_worker} requires {needed} {name}s, but the cluster has {available}: workers x {per_worker} "
                f"must be at most {available}"
            )
            raise InvalidError(FieldProblem("resources.workers" if available else f"resources.{per_worker}", message))
