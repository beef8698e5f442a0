"""REST endpoint of a job's metrics."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.http.dependencies import ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.negotiation import VARIES, negotiate
from service.http.room import RoomsDependency
from service.jobs.schemas import MetricsQuery, MetricsView
from service.jobs.series.formats import ARROW, FORMATS
from service.jobs.series.stored import stored_series

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
async def get_metrics(
    job_id: str,
    request: Request,
    services: ServicesDependency,
    rooms: RoomsDependency,
    query: Annotated[MetricsQuery, Query()],
) -> Response:
    """Get the metrics of a job, as columns by name; with another `Accept`, as CSV or as an Arrow stream of rows.

    Of a job with more than 10,000 steps, the metrics of steps are those of the first, the last, and every n-th step.
    """
    media_type = negotiate(request, list(FORMATS))

    def pieces() -> Iterator[bytes]:
        yield from FORMATS[media_type](stored_series(services.database, job_id, query))

    body = await rooms.metrics.stream(request, pieces())
    return StreamingResponse(body, media_type=media_type, headers=VARIES)
