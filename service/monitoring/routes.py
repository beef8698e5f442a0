"""REST endpoints that show the state of the service: /v1/system, /metrics for Prometheus, and the probes."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.http.dependencies import ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES
from service.monitoring.health import ReadyView, ready_view
from service.monitoring.prometheus import Exposition
from service.monitoring.system import SystemView, system_view

router = APIRouter(route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)
probes = APIRouter(tags=["health"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)  # they need no token


@router.get("/v1/system", tags=["system"], response_description="The system")
def get_system(services: ServicesDependency) -> SystemView:
    """Get the installed versions, the cluster's total and free resources, jobs by state, and the service's limits."""
    return system_view(services)


@router.get(
    "/metrics",
    tags=["health"],
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": 'gradfleet_jobs{state="running"} 2.0\n'}}}},
)
def metrics(services: ServicesDependency) -> PlainTextResponse:
    """Get the metrics of this process and of the database, in Prometheus' text format."""
    return PlainTextResponse(generate_latest(Exposition(services.database)), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@probes.get("/healthz")
def alive() -> dict[str, str]:
    """Liveness probe: the process answers."""
    return {"status": "ok"}


@probes.get("/readyz", responses={503: {"model": ReadyView, "description": "A component is not ready"}})
def ready(response: Response, services: ServicesDependency) -> ReadyView:
    """Readiness probe: 503 if a component that jobs need is not ready."""
    view = ready_view(services)
    if view.status != "ready":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return view
