"""The versions, resources and limits of the service."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from service.jobs.repository import count_by_state, jobs_in
from service.jobs.states import LIVE, State
from service.scheduling.admission import free_resources
from workers.machine.fingerprint import fingerprint

if TYPE_CHECKING:
    from service.http.dependencies import Services
    from service.settings import Settings


class ResourceView(BaseModel):
    """A resource that the cluster has for workers."""

    total: float = Field(examples=[8])
    free: float = Field(description="The part that running jobs do not use.", examples=[6])


class MlflowServerView(BaseModel):
    """The MLflow server."""

    enabled: bool = Field(description="Whether jobs are exported to it.")
    url: str | None = Field(description="Address of its pages.", examples=["http://127.0.0.1:5000"])


class SystemView(BaseModel):
    """Versions, resources and limits of the service."""

    versions: dict[str, str] = Field(examples=[{"gradfleet": "0.1.0", "ray": "2.55.0"}])
    fingerprint: dict[str, str] = Field(
        description="What the bits of a result can depend on: libraries and CPU of the machine that responds.",
        examples=[{"numpy": "2.4.6", "blas": "openblas 0.3.31", "blas_kernel": "SkylakeX", "machine": "x86_64"}],
    )
    cluster: dict[str, ResourceView] | None = Field(
        description="By Ray's names of resources; null if the process that handles the request has no cluster.",
        examples=[{"CPU": {"total": 8, "free": 6}, "GPU": {"total": 0, "free": 0}}],
    )
    jobs: dict[State, int] = Field(description="By state.", examples=[{"queued": 0, "running": 1}])
    limits: dict[str, int | float | None] = Field(
        description="Settings that limit requests and jobs; null means no limit.",
        examples=[{"max_body_bytes": 1048576}],
    )
    database: str = Field(description="Kind of the database.", examples=["sqlite", "postgresql"])
    mlflow: MlflowServerView


def system_view(services: Services) -> SystemView:
    """The versions, the cluster's resources, jobs by state, and the service's limits, as they are now."""
    settings, cluster = services.settings, services.components.cluster
    with services.database.reading() as session:
        jobs, live = count_by_state(session), jobs_in(session, LIVE)
    total = {} if cluster is None else cluster.resources
    free = free_resources(live, total)
    resources = {name: ResourceView(total=there, free=free[name]) for name, there in total.items()}
    return SystemView(
        versions={name: version(name) for name in ("gradfleet", "ray", "mlflow")},
        fingerprint=_fingerprint(),
        cluster=None if cluster is None else resources,
        jobs=jobs,
        limits=_limits(settings),
        database=services.database.engine.dialect.name,
        mlflow=MlflowServerView(enabled=settings.mlflow_url is not None, url=settings.mlflow_link),
    )


# It queries every loaded library, and does not change during the lifetime of the process.
_fingerprint = cache(fingerprint)


def _limits(settings: Settings) -> dict[str, int | float | None]:
    return {name: value for name, value in settings if name.startswith("max_")}
