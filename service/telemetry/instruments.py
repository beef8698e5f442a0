"""What this process counts and measures, for Prometheus.

Several processes can serve one database. Each counts what it did itself, so these add up over the processes: of
scheduling and export there is one at a time. What the database knows is in `exposition`.
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

disable_created_metrics()  # type: ignore[no-untyped-call]  # series that double the number of all others, for a time that nobody asks for

# Of its own: MLflow and Ray may put theirs into the library's.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

Info("gradfleet_build", "Versions of what runs.", registry=REGISTRY).info(
    {"python": platform.python_version()} | {name: version(name) for name in ("gradfleet", "numpy", "ray")}
)

QUEUE_WAIT = Histogram(
    "gradfleet_job_queue_wait_seconds",
    "From a job's coming into the queue until an attempt has it.",
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600),
    registry=REGISTRY,
)
FIRST_LOSS = Histogram(
    "gradfleet_job_first_loss_seconds",
    "From a job's POST until its first loss is recorded.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600),
    registry=REGISTRY,
)
STEPS = Counter("gradfleet_training_steps_total", "Optimiser steps that jobs have reported.", registry=REGISTRY)
STEP_TIME = Histogram(
    "gradfleet_training_step_seconds",
    "Mean duration of the steps of an epoch, observed once an epoch.",
    buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=REGISTRY,
)
EXCHANGE_TIME = Histogram(
    "gradfleet_exchange_seconds",
    "Mean time that the steps of an epoch spend on the exchange between workers, observed once an epoch.",
    buckets=(0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
    registry=REGISTRY,
)

SCHEDULER_PASS = Histogram(
    "gradfleet_scheduler_pass_seconds",
    "Duration of the scheduler's passes, the broken off ones among them.",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
    registry=REGISTRY,
)
SCHEDULER_FAILURES = Counter(
    "gradfleet_scheduler_failed_passes_total",
    "Passes of the scheduler that broke off; the log says why.",
    registry=REGISTRY,
)
SCHEDULER_LAST_PASS = Gauge(
    "gradfleet_scheduler_last_pass_timestamp_seconds",
    "When the last pass came to its end, in Unix time; 0 where this process has not scheduled.",
    registry=REGISTRY,
)

UNEXPORTED_POINTS = Gauge(
    "gradfleet_mlflow_unexported_points",
    "Recorded points that MLflow has not taken yet; 0 where this process does not export.",
    registry=REGISTRY,
)
UNEXPORTED_SECONDS = Gauge(
    "gradfleet_mlflow_unexported_seconds",
    "Age of the oldest recorded point that MLflow has not taken yet; 0 where there is none.",
    registry=REGISTRY,
)

REQUEST_LABELS = ("method", "route", "status")
REQUESTS = Counter(
    "gradfleet_http_requests_total",
    "Requests that were answered, event streams among them.",
    REQUEST_LABELS,
    registry=REGISTRY,
)
REQUEST_DURATION = Histogram(
    "gradfleet_http_request_duration_seconds",
    "From a request to the end of its answer, without event streams.",
    REQUEST_LABELS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
EVENT_STREAMS = Gauge("gradfleet_open_event_streams", "Event streams that clients listen to.", registry=REGISTRY)
