"""Readiness of the service and of each of its parts."""

import logging
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.http.dependencies import Services
from service.parts import PartStatus
from service.store import Database

logger = logging.getLogger(__name__)

# Jobs are accepted and run without it: points that it does not have yet wait in the database.
DISPENSABLE = {"mlflow"}


class PartView(BaseModel):
    """A part of the service."""

    ready: bool
    detail: str = Field(description="Why it is not ready, or what it does.", examples=["its last pass ended 0.4 s ago"])


class ReadyView(BaseModel):
    """The parts of the process that handles the request."""

    status: Literal["ready", "not ready"] = Field(
        description="Whether jobs can be accepted and run: all parts except `mlflow` are ready."
    )
    parts: dict[str, PartView] = Field(
        description="By name: database, cluster, scheduler and mlflow, as far as this process has them."
    )


def ready_view(services: Services) -> ReadyView:
    """Which parts are ready."""
    found = _statuses(services)
    missing = {name for name, part in found.items() if not part.ready} - DISPENSABLE
    return ReadyView(
        status="not ready" if missing else "ready",
        parts={name: PartView(ready=part.ready, detail=part.detail) for name, part in found.items()},
    )


def _statuses(services: Services) -> dict[str, PartStatus]:
    beside = {name: part.status() for name, part in vars(services.parts).items() if part is not None}
    return {"database": _database_status(services.database)} | beside


def _database_status(database: Database) -> PartStatus:
    try:
        with database.reading() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        logger.exception("the database does not respond")
        return PartStatus(ready=False, detail="it does not respond")
    return PartStatus(ready=True, detail="it responds")
