"""Whether the service is alive, and whether each of its parts can work."""

import logging
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.http.dependencies import Services, ServicesDependency
from service.http.problems import PROBLEM_RESPONSES
from service.parts import PartStatus
from service.store import Database

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"], responses=PROBLEM_RESPONSES)

# Jobs are accepted and run without it: what it is to be told waits in the database.
DISPENSABLE = {"mlflow"}


class PartView(BaseModel):
    """One part."""

    ready: bool
    detail: str = Field(description="Why it cannot work, or what it does.", examples=["its last pass ended 0.4 s ago"])


class ReadyView(BaseModel):
    """The parts of the process that answers."""

    status: Literal["ready", "not ready"] = Field(
        description="Whether jobs can be accepted and run: all parts are ready, but for `mlflow` perhaps."
    )
    parts: dict[str, PartView] = Field(
        description="By name: database, cluster, scheduler, mlflow, as far as the process has them."
    )


@router.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": ReadyView, "description": "A part is not ready"}})
def ready(response: Response, services: ServicesDependency) -> ReadyView:
    """Which parts can work. 503 when one cannot without which jobs are not accepted or not run."""
    found = _statuses(services)
    lacking = {name for name, part in found.items() if not part.ready} - DISPENSABLE
    if lacking:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return ReadyView(
        status="not ready" if lacking else "ready",
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
        logger.exception("the database does not answer")
        return PartStatus(ready=False, detail="it does not answer")
    return PartStatus(ready=True, detail="it answers")
