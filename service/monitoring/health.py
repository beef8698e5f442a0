"""Readiness of the service and of each of its components."""

import logging
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.components import ComponentStatus
from service.http.dependencies import Services
from service.store import Database

logger = logging.getLogger(__name__)

# Jobs are accepted and run without it: points that it does not have yet wait in the database.
DISPENSABLE = {"mlflow"}


class ComponentView(BaseModel):
    """A component of the service."""

    ready: bool
    detail: str = Field(description="Why it is not ready, or what it does.", examples=["its last pass ended 0.4 s ago"])


class ReadyView(BaseModel):
    """The components of the process that handles the request."""

    status: Literal["ready", "not ready"] = Field(
        description="Whether jobs can be accepted and run: all components except `mlflow` are ready."
    )
    components: dict[str, ComponentView] = Field(
        description="By name: database, cluster, scheduler, mlflow and connections, as far as this process has them."
    )


def ready_view(services: Services) -> ReadyView:
    """Which components are ready."""
    found = _statuses(services)
    missing = {name for name, component in found.items() if not component.ready} - DISPENSABLE
    return ReadyView(
        status="not ready" if missing else "ready",
        components={
            name: ComponentView(ready=component.ready, detail=component.detail) for name, component in found.items()
        },
    )


def _statuses(services: Services) -> dict[str, ComponentStatus]:
    beside = {
        name: component.status() for name, component in vars(services.components).items() if component is not None
    }
    return {"database": _database_status(services.database)} | beside


def _database_status(database: Database) -> ComponentStatus:
    try:
        with database.reading() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        logger.exception("the database does not respond")
        return ComponentStatus(ready=False, detail="it does not respond")
    return ComponentStatus(ready=True, detail="it responds")
