"""Prometheus metrics of this process.

Several processes can serve one database. Each counts its own work, so that the metrics add up over the processes; one
process at a time schedules and exports. Metrics from the database are in `service.monitoring.prometheus`.
"""

from __future__ import annotations

import platform
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

# A separate registry, since MLflow and Ray may use the default one.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

Info("gradfleet_build", "Versions of the installed packages.", registry=REGISTRY).info(
    {"python": platform.python_version()} | {name: version(name) for name in ("gradfleet", "numpy", "ray")}
)

QUEUE_WAIT = Histogram(
    "gradfleet_job_queue_wait_seconds",
    "Time from entering the queue to the start of an attempt.",
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600),
    registry=REGISTRY,
)
FIRST_LOSS = Histogram(
    "gradfleet_job_first_loss_seconds",
    "Time from the POST of a job until its first loss is recorded.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600),
    registry=REGISTRY,
)
STEPS = Counter("gradfleet_training_steps_total", "Optimiser steps reported by jobs.", registry=REGISTRY)
STEP_TIME = Histogram(
    "gradfleet_training_step_seconds",
    "Mean duration of the steps of an epoch, observed once per epoch.",
    buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=REGISTRY,
)
EXCHANGE_TIME = Histogram(
    "gradfleet_exchange_seconds",
    "Mean time of the exchange between workers in the steps of an epoch, observed once per epoch.",
    buckets=(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=REGISTRY,
)

SCHEDULER_PASS = Histogram(
    "gradfleet_scheduler_pass_seconds",
    "Duration of the scheduler's passes, including failed ones.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    registry=REGISTRY,
)
SCHEDULER_FAILURES = Counter(
    "gradfleet_scheduler_failed_passes_total",
    "Failed passes of the scheduler; the log has the errors.",
    registry=REGISTRY,
)
SCHEDULER_LAST_PASS = Gauge(
    "gradfleet_scheduler_last_pass_timestamp_seconds",
    "Unix time of the end of the last pass; 0 if this process has not scheduled.",
    registry=REGISTRY,
)

UNEXPORTED_POINTS = Gauge(
    "gradfleet_mlflow_unexported_points",
    "Recorded points that are not exported to MLflow yet; 0 if this process does not export.",
    registry=REGISTRY,
)
UNEXPORTED_SECONDS = Gauge(
    "gradfleet_mlflow_unexported_seconds",
    "Age of the oldest recorded point that is not exported to MLflow yet; 0 if there is none.",
    registry=REGISTRY,
)

REQUEST_LABELS = ("method", "route", "status")
REQUESTS = Counter(
    "gradfleet_http_requests_total",
    "Completed requests, including event streams.",
    REQUEST_LABELS,
    registry=REGISTRY,
)
REQUEST_DURATION = Histogram(
    "gradfleet_http_request_duration_seconds",
    "Time from a request to the end of its response, without event streams.",
    REQUEST_LABELS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
EVENT_STREAMS = Gauge("gradfleet_open_event_streams", "Open event streams.", registry=REGISTRY)
