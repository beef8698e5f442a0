"""REST endpoint of a job's events: pages, or a live stream."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from service.errors import InvalidError, UnavailableError
from service.http.dependencies import Services, ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.negotiation import VARIES, accept_of, preferred
from service.jobs.events import has_event, list_events
from service.jobs.live.streams import EventStreams, Watcher
from service.jobs.schemas import EventList, EventView, LiveView
from service.jobs.states import TERMINAL
from service.store.models import Job
from service.store.rows import find_or_404
from workers.job.checks.problems import FieldProblem

router = APIRouter(route_class=StrictJsonRoute)  # a part of the router of jobs

PAGES, STREAM = "application/json", "text/event-stream"
STREAM_EXAMPLE = """\
event: progress
data: {"state":"running","progress":{"epoch":0,"step":7,"total_steps":40},"metrics":{"train/loss":2.25}}

event: state
data: {"id":12,"time":"2026-01-01T12:00:00Z","kind":"state","attempt":1,"from_state":"running","to_state":"succeeded",\
"reason":"completed","data":null}
id: 12

"""

# Models of responses are in the API's components; this one is described only here.
LIVE_SCHEMA = LiveView.model_json_schema(ref_template="#/components/schemas/{model}")
del LIVE_SCHEMA["$defs"]

# OpenAPI describes a stream by one message of it.
MESSAGE_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "Id of the event; `progress` has none."},
        "event": {"type": "string", "description": "The event's kind, or `progress`."},
        "data": {
            "type": "string",
            "contentMediaType": PAGES,
            "contentSchema": {"anyOf": [{"$ref": "#/components/schemas/EventView"}, LIVE_SCHEMA]},
        },
    },
    "required": ["event", "data"],
}


class WatcherResponse(EventSourceResponse):
    """An event stream that is unregistered when it ends."""

    def __init__(self, watcher: Watcher, streams: EventStreams) -> None:
        # Caches must not store it and proxies must not buffer it.
        super().__init__(watcher, headers=VARIES | {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._watcher, self._streams = watcher, streams
        streams.add(watcher)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until the job ends, the client disconnects, or the service stops."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.remove(self._watcher)


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "Events, oldest first; the stream ends with the job",
            "content": {STREAM: {"itemSchema": MESSAGE_SCHEMA, "example": STREAM_EXAMPLE}},
        },
        204: {"description": "For a stream: the job has ended, and there are no more events"},
    },
)
async def get_events(
    job_id: str,
    request: Request,
    services: ServicesDependency,
    limit: Annotated[
        int, Query(ge=1, le=100, description="Maximum number of events of a page; a stream has no limit.")
    ] = 20,
    starting_after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="Id of the last event that the client has.")
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(
            alias="Last-Event-ID",
            ge=0,
            lt=2**63,
            description="For a stream: id of the last event that the client has; overrides starting_after.",
        ),
    ] = None,
) -> Response:
    """List the events of a job, oldest first: every change of state, every attempt, every restart.

    With `Accept: text/event-stream` they are sent as they happen, as server-sent events with the event's id, its kind
    and the event as JSON. Messages of the kind `progress`, without an id, have the state, progress and metrics when
    these have changed. After a disconnection, `Last-Event-ID` continues the stream.
    """
    if preferred(accept_of(request), (PAGES, STREAM)) != STREAM:
        page = await run_in_threadpool(_page, job_id, services, limit, starting_after)
        return Response(page.model_dump_json(), media_type=PAGES, headers=VARIES)
    cursor = last_event_id if last_event_id is not None else starting_after or 0
    field = "starting_after" if last_event_id is None else "Last-Event-ID"
    if await run_in_threadpool(_is_complete, job_id, services, cursor, field):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=VARIES)
    streams: EventStreams = request.app.state.streams
    if streams.closed or streams.full:
        why = "is stopping" if streams.closed else f"has {len(streams)} open event streams, its limit"
        message = f"The service {why}. GET {request.url.path} as {PAGES} gives the events in pages."
        raise UnavailableError(message, headers=VARIES)
    return WatcherResponse(Watcher(job_id, cursor), streams)


def _check_cursor(session: Session, job_id: str, cursor: int | None, field: str) -> None:
    """Raise InvalidError for a cursor that is not an event of the job; 0 is before the first one."""
    if cursor and not has_event(session, job_id, cursor):
        message = f"the job has no event with this id: must be the id of one of the events of job {job_id}, or 0"
        raise InvalidError(FieldProblem(field, message))


def _page(job_id: str, services: Services, limit: int, starting_after: int | None) -> EventList:
    with services.database.reading() as session:
        find_or_404(session, Job, job_id)
        _check_cursor(session, job_id, starting_after, "starting_after")
        events, has_more = list_events(session, job_id, limit=limit, starting_after=starting_after)
        return EventList(data=[EventView.model_validate(event) for event in events], has_more=has_more)


def _is_complete(job_id: str, services: Services, cursor: int, field: str) -> bool:
    """Whether a job has ended and has no event after `cursor`; browsers then do not reconnect."""
    with services.database.reading() as session:
        job = find_or_404(session, Job, job_id)
        _check_cursor(session, job_id, cursor, field)
        return job.state in TERMINAL and not list_events(session, job_id, limit=1, starting_after=cursor)[0]
