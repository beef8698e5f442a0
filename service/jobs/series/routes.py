"""The endpoint of a job's metrics."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.http.dependencies import ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.negotiation import VARIES, negotiate
from service.http.problems import PROBLEM_RESPONSES
from service.jobs.checks import unknown_job
from service.jobs.repository import get_job
from service.jobs.schemas import MetricsView
from service.jobs.series.formats import ARROW, FORMATS
from service.jobs.series.points import read_series
from service.jobs.series.thinning import FEWEST

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

# SQL integers have 64 bits.
Step = Annotated[int | None, Query(ge=0, lt=2**63)]


@router.get(
    "/{job_id}/metrics",
    response_model=MetricsView,
    responses={
        200: {
            "description": "Points, in order of name and step",
            "content": {
                "application/json": {
                    "example": {"data": {"train/loss": {"steps": [1, 2], "values": [2.302585092994046, 2.25]}}}
                },
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "step,name,value\n1,train/loss,2.302585092994046\n",
                },
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
def get_metrics(
    job_id: str,
    request: Request,
    services: ServicesDependency,
    *,
    name: Annotated[list[str] | None, Query(description="Only these series; may be repeated.")] = None,
    from_step: Step = None,
    to_step: Step = None,
    max_points: Annotated[
        int | None,
        Query(
            ge=FEWEST,
            lt=2**63,
            description="Most points of a series; of one that has more, the first, last, smallest and largest of "
            "each of many equal pieces are kept.",
        ),
    ] = None,
) -> Response:
    """Points of a job, as columns by name; with another `Accept`, as CSV or as an Arrow stream of rows.

    Of a job of more than 10,000 steps, the metrics of steps are those of the first, the last, and every n-th one.
    """
    media_type = negotiate(request, list(FORMATS))
    with services.database.reading() as session:
        if get_job(session, job_id) is None:
            raise unknown_job(job_id)
        series = read_series(session, job_id, names=name or (), from_step=from_step, to_step=to_step)
    if max_points is not None:
        series = {name: whole.thinned(max_points) for name, whole in series.items()}
    return Response(FORMATS[media_type](series), media_type=media_type, headers=VARIES)
