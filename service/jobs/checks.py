"""Checks of a job against its dataset and the cluster, made before the job is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.datasets.outputs import output_names
from service.datasets.repository import find_dataset, located, snapshot_of
from service.errors import InvalidError, NotFoundError
from workers.data.dataset import DatasetInfo
from workers.job.checks.problems import FieldProblem
from workers.job.once import Once
from workers.job.resolve import ResolvedJob, resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from service.http.dependencies import Services
    from service.http.room import Stop
    from service.jobs.schemas import JobRequest, ResourcesChange
    from service.settings import Settings
    from service.store.models import Job
    from workers.job.spec import ResourcesSpec


def check_job(spec: JobRequest, services: Services, stop: Stop) -> tuple[dict[str, Any], ResolvedJob]:
    """Check one spec; see `JobChecks.check`. `stop` is checked before each of its longer parts."""
    return JobChecks(services, stop).check(spec)


class JobChecks:
    """Checks of several specs: each dataset is read once, and what specs with the same model share is computed once."""

    def __init__(self, services: Services, stop: Stop) -> None:
        self._services, self._once = services, Once(stop.check)
        self._datasets: dict[str, tuple[dict[str, Any], DatasetInfo]] = {}

    def check(self, spec: JobRequest) -> tuple[dict[str, Any], ResolvedJob]:
        """Check a spec against its dataset and the cluster; returns the dataset and the resolved job.

        Raises InvalidError or SpecError, which name the fields that are wrong.
        """
        dataset, info = self._dataset(spec.data.dataset)
        resolved = resolve(spec, info, self._services.settings.limits, self._once, output_names(dataset))
        _check_cluster_fits(spec.resources, self._services.settings)
        return dataset, resolved

    def _dataset(self, name: str) -> tuple[dict[str, Any], DatasetInfo]:
        if name not in self._datasets:
            with self._services.database.reading() as session:
                try:
                    dataset = snapshot_of(find_dataset(session, name))
                except NotFoundError as error:
                    raise InvalidError(FieldProblem("data.dataset", str(error))) from None
            self._datasets[name] = dataset, DatasetInfo.from_json(located(dataset, self._services.settings))
        return self._datasets[name]


def checked_resources(job: Job, change: ResourcesChange, settings: Settings) -> ResourcesSpec:
    """The resources of a job after a change.

    Raises InvalidError or SpecError where the job cannot run on them.
    """
    resources = {**job.spec["resources"], **change.model_dump(exclude_none=True)}
    spec = JobSpec.model_validate({**job.spec, "resources": resources})
    resolved = resolve(spec, DatasetInfo.from_json(located(job.dataset, settings)), settings.limits).spec.resources
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
