"""GET /v1/system: what runs here, what there is room for, and what is allowed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.http.dependencies import ServicesDependency
from service.http.problems import PROBLEM_RESPONSES
from service.jobs.repository import count_by_state, jobs_in
from service.jobs.states import LIVE, State
from service.scheduling.admission import free_resources
from workers.machine.fingerprint import fingerprint

if TYPE_CHECKING:
    from service.settings import Settings

router = APIRouter(prefix="/v1/system", tags=["system"], responses=PROBLEM_RESPONSES)


class ResourceView(BaseModel):
    """How much of one kind the cluster has for workers."""

    total: float = Field(examples=[8])
    free: float = Field(description="What the jobs that run leave of it.", examples=[6])


class MlflowView(BaseModel):
    """The MLflow server."""

    told: bool = Field(description="Whether it is told about the jobs.")
    url: str | None = Field(description="Its pages.", examples=["http://127.0.0.1:5000"])


class SystemView(BaseModel):
    """What runs here, what there is room for, and what is allowed."""

    versions: dict[str, str] = Field(examples=[{"gradfleet": "0.1.0", "ray": "2.55.0"}])
    fingerprint: dict[str, str] = Field(
        description="What the last bits of a result can depend on, of the machine that answers.",
        examples=[{"numpy": "2.4.6", "blas": "openblas 0.3.31", "blas_kernel": "SkylakeX", "machine": "x86_64"}],
    )
    cluster: dict[str, ResourceView] | None = Field(
        description="By Ray's names for the resources; null where the process that answers has no cluster.",
        examples=[{"CPU": {"total": 8, "free": 6}, "GPU": {"total": 0, "free": 0}}],
    )
    jobs: dict[State, int] = Field(description="By state.", examples=[{"queued": 0, "running": 1}])
    limits: dict[str, int | float | None] = Field(
        description="Settings that limit what is accepted; null for no limit.", examples=[{"max_body_bytes": 1048576}]
    )
    database: str = Field(description="Kind of the database.", examples=["sqlite", "postgresql"])
    mlflow: MlflowView


@router.get("", response_description="What runs here")
def get_system(services: ServicesDependency) -> SystemView:
    """The versions that run here, what the cluster has and has free, jobs by state, and the service's limits."""
    settings, cluster = services.settings, services.parts.cluster
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
        mlflow=MlflowView(told=settings.mlflow_url is not None, url=settings.mlflow_link),
    )


# It asks every library that is loaded, and does not change while the process lives.
_fingerprint = cache(fingerprint)


def _limits(settings: Settings) -> dict[str, int | float | None]:
    return {name: value for name, value in settings if name.startswith("max_")}
