"""GET /metrics: what the process counted, and what the database knows, in Prometheus' text format."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from service.http.dependencies import ServicesDependency
from service.http.problems import PROBLEM_RESPONSES
from service.jobs.events import count_incidents
from service.jobs.repository import count_by_state
from service.telemetry.instruments import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from service.store import Database

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"], responses=PROBLEM_RESPONSES)

# By the kind of event that is counted.
INCIDENTS = {
    "restarted": ("gradfleet_job_restarts", "Times that a job went on from its last checkpoint after a fault"),
    "determinism_violation": (
        "gradfleet_determinism_violations",
        "Points that were computed again and differed by a bit or more",
    ),
    "messages_refused": ("gradfleet_refused_messages", "Messages between workers that belonged to no job of theirs"),
}
SHARED = "in the database, so the same from every process."


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": 'gradfleet_jobs{state="running"} 2.0\n'}}}},
)
def metrics(services: ServicesDependency) -> PlainTextResponse:
    """Figures for Prometheus, in its text format."""
    return PlainTextResponse(generate_latest(Exposition(services.database)), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Exposition(Collector):
    """Everything that a scrape is told; without what the database knows, where it does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        yield from REGISTRY.collect()
        try:
            with self._database.reading() as session:
                states, incidents = count_by_state(session), count_incidents(session)
        except SQLAlchemyError:
            logger.exception("the database does not answer")
            return
        jobs = GaugeMetricFamily("gradfleet_jobs", f"Jobs by state, {SHARED}", labels=["state"])
        for state, count in states.items():
            jobs.add_metric([state], count)
        yield jobs
        for kind, (name, description) in INCIDENTS.items():
            yield CounterMetricFamily(name, f"{description}, {SHARED}", value=incidents.get(kind, 0))
