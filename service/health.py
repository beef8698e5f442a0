"""Whether the service is alive, and whether it can work."""

import logging
from http import HTTPStatus

from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.dependencies import ServicesDependency
from service.problems import ProblemError

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(services: ServicesDependency) -> dict[str, str]:
    """The database answers as well."""
    try:
        with services.database.reading() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        logger.exception("the database does not answer")
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "The database does not answer.") from None
    return {"status": "ok"}
