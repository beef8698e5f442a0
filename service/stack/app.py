"""Assembles the REST API."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from service.access.guard import TokenGuard
from service.access.headers import SecurityHeaders
from service.access.local import LocalOnly
from service.components import Components
from service.datasets import routes as datasets
from service.datasets.files.uploading import Uploads
from service.datasets.runners import TaskRunners
from service.http.dependencies import Services
from service.http.docs_page import install_docs_page
from service.http.head import HeadLikeGet
from service.http.limits import BodyLimit
from service.http.observed import Observed
from service.http.openapi import complete
from service.http.problems import install_problem_handlers
from service.http.room import Rooms
from service.jobs import routes as jobs
from service.jobs.certificates import routes as certificates
from service.jobs.datasets import routes as dataset_deletion
from service.jobs.live.streams import EventStreams
from service.monitoring import routes as monitoring
from service.sweeps import routes as sweeps
from service.tracking.artifacts import routes as artifacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from service.settings import Settings
    from service.store import Database


# Only for the OpenAPI document and its "Authorize" button: `TokenGuard` rejects requests without a token before.
BEARER = Security(HTTPBearer(auto_error=False, description="From `gradfleet tokens add`."))


class Api(FastAPI):
    """FastAPI with HEAD requests, and with security headers outside all other middleware."""

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap all middleware, including the one that responds to unexpected errors."""
        return HeadLikeGet(SecurityHeaders(super().build_middleware_stack()))

    def openapi(self) -> dict[str, Any]:
        """Describe the API, with the responses with problem details."""
        if self.openapi_schema is None:
            complete(super().openapi(), tokens=self.state.services.settings.requires_token)
        return super().openapi()


NO_COMPONENTS = Components()


def _do_nothing() -> None:
    pass


def create_app(
    settings: Settings,
    *,
    database: Database,
    on_change: Callable[[], None] = _do_nothing,
    components: Components = NO_COMPONENTS,
) -> FastAPI:
    """The API on a migrated database.

    `on_change` is called, on any thread, after a request has created a job or changed one; it must return immediately.
    `components` are the other parts of the service in this process, whose status `/readyz` reports.
    """
    app = Api(
        title="Gradfleet",
        version=version("gradfleet"),
        summary="Exact distributed batch training: jobs over REST, every loss recorded.",
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # short names in generated clients
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = Services(settings, database, on_change, components)
    app.state.rooms = Rooms()
    app.state.runners = TaskRunners(settings)
    app.state.uploads = Uploads(settings.max_uploads, settings.max_upload_seconds)
    app.state.streams = EventStreams(database, settings.max_event_streams)
    install_problem_handlers(app)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        max_seconds=settings.max_body_seconds,
        unread={datasets.UPLOAD_PATH: settings.max_upload_bytes},
    )
    # The middleware added last runs first, so the body of an unauthorised request is not read.
    if settings.requires_token:
        app.add_middleware(TokenGuard, database=database, requests_per_second=settings.requests_per_second)
    else:
        app.add_middleware(LocalOnly, allowed_hosts=settings.allowed_hosts)
    security = [BEARER] if settings.requires_token else []
    for domain in (jobs, artifacts, certificates, sweeps, datasets, monitoring):
        app.include_router(domain.router, dependencies=security)
    for part in (datasets.examples_router, dataset_deletion.router):
        app.include_router(part, dependencies=security)
    app.include_router(monitoring.probes)
    install_docs_page(app)
    app.add_middleware(Observed)  # outside the others, so it also counts the requests that they reject
    return app
