"""Jobs as the API shows them."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.jobs.labels import Labels
from service.jobs.mlflow_pages import run_page
from service.jobs.states import State
from workers.job.fields import StrictModel
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from service.store.models import Job  # `gradfleet gradcheck` reads specs without SQLAlchemy

HINGE_JOB: dict[str, Any] = {
    "name": "digits-hinge",
    "experiment": "hinge-vs-softmax",
    "data": {"dataset": "digits", "validation": 0.2, "standardize": True},
    "model": {"layers": [{"type": "linear", "units": 128}, {"type": "relu"}, {"type": "linear", "units": 10}]},
    "loss": {"type": "hinge", "margin": 1.0},
    "regularization": {"l2": 0.0001},
    "optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "schedule": {"type": "cosine"}},
    "training": {"epochs": 20, "batch_size": 128, "seed": 0, "shards": 4},
    "resources": {"workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0},
}


class JobRequest(JobSpec):
    """A training job, with what is said about it and not part of it: no result depends on that.

    A field that is left at its default is left out: the body's hash is the one from before there was the field.
    """

    labels: Labels = Field(
        {},
        description="Up to 32 keys of letters, digits and ._/- with a text each.",
        examples=[{"team": "vision"}],
        exclude_if=lambda labels: not labels,
    )
    priority: int = Field(
        0,
        ge=-100,
        le=100,
        description="Jobs of a higher priority start first; those of the same one, first come first served.",
        exclude_if=lambda priority: priority == 0,
    )


# Fields of a request that are no part of the job's spec.
BESIDE_SPEC = JobRequest.model_fields.keys() - JobSpec.model_fields.keys()


class ResourcesChange(StrictModel):
    """What is to change of a job's resources; a field that is left out stays as it is."""

    workers: int | None = Field(None, ge=1, le=1024, description="Worker processes.")
    cpus_per_worker: int | None = Field(None, ge=1, le=1024, description="Threads of shards in each worker.")


class JobChange(StrictModel):
    """What is to change of a job."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"resources": {"workers": 1}}]})

    resources: ResourcesChange


class ProgressView(BaseModel):
    """How far training has come: epochs and global optimiser steps that are done."""

    epoch: int
    step: int
    total_steps: int


class AttemptView(BaseModel):
    """One try at the job."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    outcome: str | None = Field(description="How it ended; null while it lasts.")
    reason: str | None
    started_at: datetime
    finished_at: datetime | None


class MlflowView(BaseModel):
    """The job's run in MLflow."""

    run_id: str
    url: str | None
    complete: bool = Field(description="Whether the run has ended and MLflow has all of it.")


class MembershipView(BaseModel):
    """The sweep that made a job, and what the job has of its own in it."""

    id: str
    overrides: dict[str, JsonValue] = Field(description="Values of the fields, by dotted paths, that the sweep set.")


RUNNING_JOB: dict[str, JsonValue] = {
    "id": "job_0064b8a1f2c3d4a1b2c3d4e5f6",
    "name": "digits-hinge",
    "experiment": "hinge-vs-softmax",
    "state": "running",
    "reason": None,
    "labels": {"team": "vision"},
    "priority": 0,
    "spec": HINGE_JOB,
    "dataset": {
        "name": "digits",
        "version": 1,
        "digest": "9f2c66d2e2bd6cf3f2e0a8e3c5fd2c7f1b7f0e8e6d9f5c9a4f3e2d1c0b9a8f7e",
    },
    "progress": {"epoch": 3, "step": 40, "total_steps": 240},
    "metrics": {"train/loss": 0.53, "val/accuracy": 0.94},
    "attempts": [
        {"number": 1, "outcome": None, "reason": None, "started_at": "2026-01-01T12:00:01Z", "finished_at": None}
    ],
    "restarts": 0,
    "created_at": "2026-01-01T12:00:00Z",
    "started_at": "2026-01-01T12:00:01Z",
    "finished_at": None,
    "mlflow": None,
    "params_sha256": None,
    "sweep": None,
}


class JobDatasetView(BaseModel):
    """The version of a dataset that a job is trained on."""

    name: str
    version: int
    digest: str = Field(description="SHA-256 of the content.")


class JobView(BaseModel):
    """A job."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUNNING_JOB]})

    id: str
    name: str
    experiment: str
    state: State
    reason: str | None = Field(description="Why it is in this state, for a machine to read.")
    labels: dict[str, str]
    priority: int
    spec: dict[str, Any] = Field(description="The spec with every default filled in.")
    dataset: JobDatasetView | None = Field(description="Null for a job from before datasets had versions.")
    progress: ProgressView
    metrics: dict[str, float | None] = Field(
        description="The latest value of each series; null is not a finite number."
    )
    attempts: list[AttemptView]
    restarts: int = Field(description="How often it lost workers, or all it ran on, and went on from a checkpoint.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    mlflow: MlflowView | None = Field(description="Null until MLflow has been told.")
    params_sha256: str | None = Field(
        description="SHA-256 over the parameters' little-endian float32 bytes, in order of name; null before the first "
        "checkpoint."
    )
    sweep: MembershipView | None = Field(description="Null for a job that was submitted by itself.")


class JobList(BaseModel):
    """Some jobs, newest first."""

    data: list[JobView]
    has_more: bool = Field(description="Whether jobs follow; ask again with starting_after = the last id here.")


END: dict[str, JsonValue] = {
    "id": 12,
    "time": "2026-01-01T12:01:00Z",
    "kind": "state",
    "attempt": 1,
    "from_state": "running",
    "to_state": "succeeded",
    "reason": "completed",
    "data": None,
}


class EventView(BaseModel):
    """Something that happened to a job."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [END]})

    id: int = Field(description="Grows with time.")
    time: datetime
    kind: str = Field(description="state, attempt_started, attempt_finished, training_started, restarted and others.")
    attempt: int | None = Field(description="Number of the attempt that it is about.")
    from_state: State | None
    to_state: State | None
    reason: str | None
    data: dict[str, Any] | None


class LiveView(BaseModel):
    """How a job stands, in the `progress` messages of its stream."""

    state: State
    progress: ProgressView
    metrics: dict[str, float | None]


class EventList(BaseModel):
    """What happened to a job, oldest first."""

    data: list[EventView]
    has_more: bool = Field(description="Whether events follow; ask again with starting_after = the last id here.")


class SeriesView(BaseModel):
    """A series in columns."""

    steps: list[int] = Field(description="Global optimiser steps.")
    values: list[float | None] = Field(description="Null is not a finite number.")


class MetricsView(BaseModel):
    """Series by name."""

    data: dict[str, SeriesView]


def job_view(job: "Job", mlflow_link: str | None) -> JobView:
    """A job's row as the API shows it; `mlflow_link` is the base of links to MLflow."""
    return JobView(
        id=job.id,
        name=job.name,
        experiment=job.experiment,
        state=State(job.state),
        reason=job.reason,
        labels={label.key: label.value for label in job.labels},
        priority=job.priority,
        spec=job.spec,
        dataset=JobDatasetView.model_validate(job.dataset) if "version" in job.dataset else None,
        progress=ProgressView(epoch=job.epoch, step=job.step, total_steps=job.total_steps),
        metrics=latest_values(job.latest_metrics),
        attempts=[AttemptView.model_validate(attempt) for attempt in job.attempts],
        restarts=job.restarts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        mlflow=mlflow_view(job, mlflow_link),
        params_sha256=job.params_sha256,
        sweep=None if job.sweep_id is None else MembershipView(id=job.sweep_id, overrides=job.overrides or {}),
    )


def latest_values(latest_metrics: dict[str, Any]) -> dict[str, float | None]:
    """Names and values of a row's latest metrics."""
    return {name: value for name, (_, value) in sorted(latest_metrics.items())}


def mlflow_view(job: "Job", mlflow_link: str | None) -> MlflowView | None:
    """Its run in MLflow, as the API shows it; None until MLflow has been told."""
    run = job.mlflow_run
    if run is None:
        return None
    url = None if mlflow_link is None else f"{mlflow_link}/{run_page(run.experiment_id, run.run_id)}"
    return MlflowView(run_id=run.run_id, url=url, complete=job.mlflow_finished)
