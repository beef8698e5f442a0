"""The REST API, put together."""

from __future__ import annotations

from asyncio import Semaphore
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from service.access.guard import TokenGuard
from service.access.headers import SecurityHeaders
from service.access.local import LocalOnly
from service.components import Components
from service.datasets import routes as datasets
from service.datasets.registration import REGISTRATIONS_AT_ONCE
from service.http.dependencies import Services
from service.http.docs_page import install_docs_page
from service.http.limits import BodyLimit
from service.http.observed import Observed
from service.http.problems import install_problem_handlers
from service.jobs import routes as jobs
from service.jobs.live.streams import EventStreams
from service.monitoring import routes as monitoring
from service.sweeps import routes as sweeps

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from service.settings import Settings
    from service.store import Database


# For the API's description alone, and its "Authorize" button: the guard has let nobody come this far without a token.
BEARER = Security(HTTPBearer(auto_error=False, description="From `gradfleet tokens add`."))


class Api(FastAPI):
    """FastAPI with one more layer around all that it puts together."""

    def build_middleware_stack(self) -> ASGIApp:
        """The layers; what `add_middleware` adds is within the one that answers unexpected errors."""
        return SecurityHeaders(super().build_middleware_stack())


NO_COMPONENTS = Components()


def _nothing() -> None:
    pass


def create_app(
    settings: Settings,
    *,
    database: Database,
    on_change: Callable[[], None] = _nothing,
    components: Components = NO_COMPONENTS,
) -> FastAPI:
    """The API on a migrated database.

    `on_change` is called, on any thread, after a user has added a job or changed what one is to do; it must return at
    once. `components` are what works beside the API in this process.
    """
    app = Api(
        title="Gradfleet",
        version=version("gradfleet"),
        summary="Exact distributed batch training: jobs over REST, every loss recorded.",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # short names in clients that are generated
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = Services(
        settings,
        database,
        on_change,
        components,
        Semaphore(REGISTRATIONS_AT_ONCE),
    )
    app.state.streams = EventStreams(database, settings.max_event_streams)
    install_problem_handlers(app)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_seconds=settings.max_body_seconds,
        unread=frozenset({datasets.UPLOAD_PATH}),
    )
    # The last one added is asked first: no body is read of those who are not let in.
    if settings.requires_token:
        app.add_middleware(TokenGuard, database=database, requests_per_second=settings.requests_per_second)
    else:
        app.add_middleware(LocalOnly, allowed_hosts=settings.allowed_hosts)
    asked = [BEARER] if settings.requires_token else []
    for domain in (jobs, sweeps, datasets, monitoring):
        app.include_router(domain.router, dependencies=asked)
    app.include_router(monitoring.probes)
    install_docs_page(app)
    app.add_middleware(Observed)  # after every other one, and so around them: it sees what they refuse
    return app
