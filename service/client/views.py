"""What the API answers. A newer service may send more than stands here; it is handed on as it is."""

from __future__ import annotations

from typing import Any, TypedDict

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


class Progress(TypedDict):
    """How far training has come: epochs and global optimiser steps that are done."""

    epoch: int
    step: int
    total_steps: int


class Attempt(TypedDict):
    """One try at a job; times are in the form of ISO 8601."""

    number: int
    outcome: str | None
    reason: str | None
    started_at: str
    finished_at: str | None


class MlflowRun(TypedDict):
    """A job's run in MLflow; `complete` once MLflow has all of it."""

    run_id: str
    url: str | None
    complete: bool


class JobData(TypedDict):
    """A job."""

    id: str
    name: str
    experiment: str
    state: str
    reason: str | None
    labels: dict[str, str]
    priority: int
    spec: dict[str, Any]
    progress: Progress
    metrics: dict[str, float | None]
    attempts: list[Attempt]
    restarts: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    mlflow: MlflowRun | None
    params_sha256: str | None


class Event(TypedDict):
    """Something that happened to a job."""

    id: int
    time: str
    kind: str
    attempt: int | None
    from_state: str | None
    to_state: str | None
    reason: str | None
    data: dict[str, Any] | None


class Dataset(TypedDict):
    """A registered dataset."""

    name: str
    digest: str
    rows: int
    features: int
    classes: list[str]
    label: str
    source: str
    created_at: str


class Layer(TypedDict):
    """A layer of a model; `shape` is that of what it gives, with "batch" for the number of rows."""

    name: str
    type: str
    shape: list[int | str]
    parameters: int


class FieldNote(TypedDict):
    """What is to be said of a field."""

    field: str
    message: str


class Preview(TypedDict):
    """What would run."""

    spec: dict[str, Any]
    parameters: int
    layers: list[Layer]
    train_rows: int
    validation_rows: int
    steps_per_epoch: int
    total_steps: int
    memory_per_worker_bytes: int
    warnings: list[FieldNote]
