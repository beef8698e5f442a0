"""The REST API, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI

from service import health
from service.datasets import routes as datasets
from service.dependencies import Services
from service.docs_page import install_docs_page
from service.jobs import control
from service.jobs import routes as jobs
from service.limits import BodyLimit
from service.problems import install_problem_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.settings import Settings
    from service.store import Database


def _nothing() -> None:
    pass


def create_app(
    settings: Settings,
    *,
    database: Database,
    on_change: Callable[[], None] = _nothing,
) -> FastAPI:
    """The API on a migrated database.

    `on_change` is called, on any thread, after a user has added a job or changed what one is to do; it must return at
    once.
    """
    app = FastAPI(
        title="Gradfleet",
        version=version("gradfleet"),
        summary="Exact distributed batch training: jobs over REST, every loss recorded.",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = Services(settings, database, on_change)
    install_problem_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    for module in (jobs, control, datasets, health):
        app.include_router(module.router)
    install_docs_page(app)
    return app
