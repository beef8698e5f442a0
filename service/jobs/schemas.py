"""Jobs as the API shows them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.jobs.states import State
from service.store.models import Job, MlflowRun
from workers.fields import StrictModel

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


class JobView(BaseModel):
    """A job."""

    id: str
    name: str
    experiment: str
    state: State
    reason: str | None = Field(description="Why it is in this state, for a machine to read.")
    spec: dict[str, Any] = Field(description="The spec with every default filled in.")
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


class JobList(BaseModel):
    """Some jobs, newest first."""

    data: list[JobView]
    has_more: bool = Field(description="Whether jobs follow; ask again with starting_after = the last id here.")


class EventView(BaseModel):
    """Something that happened to a job."""

    model_config = ConfigDict(from_attributes=True)

    id: int = Field(description="Grows with time.")
    time: datetime
    kind: str = Field(description="state, attempt_started, attempt_finished, training_started, restarted and others.")
    attempt: int | None = Field(description="Number of the attempt that it is about.")
    from_state: State | None
    to_state: State | None
    reason: str | None
    data: dict[str, Any] | None


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


def job_view(job: Job, mlflow_link: str | None) -> JobView:
    """A job's row as the API shows it; `mlflow_link` is the base of links to MLflow."""
    return JobView(
        id=job.id,
        name=job.name,
        experiment=job.experiment,
        state=State(job.state),
        reason=job.reason,
        spec=job.spec,
        progress=ProgressView(epoch=job.epoch, step=job.step, total_steps=job.total_steps),
        metrics={name: value for name, (_, value) in sorted(job.latest_metrics.items())},
        attempts=[AttemptView.model_validate(attempt) for attempt in job.attempts],
        restarts=job.restarts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        mlflow=_mlflow_view(job.mlflow_run, mlflow_link),
        params_sha256=job.params_sha256,
    )


def _mlflow_view(run: MlflowRun | None, mlflow_link: str | None) -> MlflowView | None:
    if run is None:
        return None
    url = None
    if mlflow_link is not None:
        # MLflow's pages open on another kind of work unless the link says otherwise.
        page = f"experiments/{run.experiment_id}/runs/{run.run_id}"
        url = f"{mlflow_link}/#/{page}?workflowType=machine_learning"
    return MlflowView(run_id=run.run_id, url=url, complete=run.finished)
