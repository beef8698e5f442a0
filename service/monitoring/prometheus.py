"""Metrics for Prometheus: those that this process counts, and those that come from the database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from service.jobs.events import count_incidents
from service.jobs.repository import count_by_state
from service.telemetry.instruments import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from service.store import Database

logger = logging.getLogger(__name__)

# By the kind of event.
INCIDENTS = {
    "restarted": ("gradfleet_job_restarts", "Restarts of jobs from their last checkpoint after a fault"),
    "determinism_violation": (
        "gradfleet_determinism_violations",
        "Points that were computed again with different bits",
    ),
    "messages_refused": (
        "gradfleet_refused_messages",
        "Connections and messages that workers refused",
    ),
}
SHARED = "from the database, so the same in every process."


class Exposition(Collector):
    """All metrics; without those from the database while it does not respond."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """The current values."""
        yield from REGISTRY.collect()
        try:
            with self._database.reading() as session:
                states, incidents = count_by_state(session), count_incidents(session)
        except SQLAlchemyError:
            logger.exception("the database does not respond")
            return
        jobs = GaugeMetricFamily("gradfleet_jobs", f"Jobs by state, {SHARED}", labels=["state"])
        for state, count in states.items():
            jobs.add_metric([state], count)
        yield jobs
        for kind, (name, description) in INCIDENTS.items():
            yield CounterMetricFamily(name, f"{description}, {SHARED}", value=incidents.get(kind, 0))
