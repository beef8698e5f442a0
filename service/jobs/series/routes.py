"""REST endpoint of a job's metrics."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.http.dependencies import ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.negotiation import VARIES, negotiate
from service.jobs.schemas import MetricsQuery, MetricsView
from service.jobs.series.formats import ARROW, FORMATS
from service.jobs.series.points import read_series
from service.store.models import Job
from service.store.rows import find_or_404

router = APIRouter(route_class=StrictJsonRoute)  # a part of the router of jobs


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
    job_id: str, request: Request, services: ServicesDependency, query: Annotated[MetricsQuery, Query()]
) -> Response:
    """Get the metrics of a job, as columns by name; with another `Accept`, as CSV or as an Arrow stream of rows.

    Of a job with more than 10,000 steps, the metrics of steps are those of the first, the last, and every n-th step.
    """
    media_type = negotiate(request, list(FORMATS))
    with services.database.reading() as session:
        find_or_404(session, Job, job_id)
        series = read_series(session, job_id, names=query.name, from_step=query.from_step, to_step=query.to_step)
    if query.max_points is not None:
        series = {name: whole.thinned(query.max_points) for name, whole in series.items()}
    return Response(FORMATS[media_type](series), media_type=media_type, headers=VARIES)
