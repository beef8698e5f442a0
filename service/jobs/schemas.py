"""Jobs as the API accepts and returns them."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from core import Task
from service.datasets.outputs import named_outputs, positive_class
from service.jobs.certificates.views import VerificationView, verification_view
from service.jobs.labels import MAX_LABELS, LabelFilter, Labels
from service.jobs.mlflow_pages import run_page
from service.jobs.series.thinning import FEWEST
from service.jobs.states import State
from workers.job.fields import StrictModel
from workers.job.metrics import epoch_mean
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
    """A training job with its labels and priority, on which no result depends."""

    labels: Labels = Field(
        {},
        description="Up to 32 labels: keys of letters, digits and ._/- with text values.",
        examples=[{"team": "vision"}],
    )
    priority: int = Field(
        0,
        ge=-100,
        le=100,
        description="Jobs of higher priority start first; jobs of the same priority in the order of submission.",
    )


# Fields of a request that are not part of the job's spec.
BESIDE_SPEC = JobRequest.model_fields.keys() - JobSpec.model_fields.keys()


class ResourcesChange(StrictModel):
    """Changes of a job's resources; omitted fields are not changed."""

    workers: int | None = Field(None, ge=1, le=1024, description="Worker processes.")
    cpus_per_worker: int | None = Field(
        None, ge=1, le=1024, description="Threads of each worker, which compute shards."
    )


class JobChange(StrictModel):
    """Changes of a job."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"resources": {"workers": 1}}]})

    resources: ResourcesChange


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years 1 and 9999") from None


def _with_a_date(text: str) -> str:
    # Pydantic would read a number as seconds since 1970.
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z")
    return text


Time = Annotated[AwareDatetime, BeforeValidator(_with_a_date), AfterValidator(_in_utc)]


JobId = Annotated[str, Field(pattern="^job_[0-9a-f]{26}$")]


class JobFilter(BaseModel):
    """Query parameters of the list of jobs."""

    limit: int = Field(20, ge=1, le=100)
    starting_after: JobId | None = Field(
        None, description="Id of the last job of the previous page; it may be deleted."
    )
    state: State | None = None
    experiment: str | None = None
    sweep: str | None = Field(None, description="Only members of the sweep with this id.")
    label: list[LabelFilter] = Field(
        [], max_length=MAX_LABELS, description="Only jobs with this label, key:value; may be repeated."
    )
    created_after: Time | None = Field(None, description="Only jobs created at this time or later.")
    created_before: Time | None = Field(None, description="Only jobs created before this time.")


class ProgressView(BaseModel):
    """Completed epochs and global optimiser steps."""

    epoch: int
    step: int
    total_steps: int


class AttemptView(BaseModel):
    """An attempt to run the job."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    outcome: str | None = Field(description="How it ended; null while it runs.")
    reason: str | None
    started_at: datetime
    finished_at: datetime | None


class MlflowView(BaseModel):
    """The job's run in MLflow."""

    run_id: str
    url: str | None
    complete: bool = Field(description="Whether the run has ended and everything is exported.")


class MembershipView(BaseModel):
    """The sweep that a job is a member of, and the fields in which it differs."""

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
        "deleted": False,
    },
    "progress": {"epoch": 3, "step": 40, "total_steps": 240},
    "task": "classification",
    "positive_class": None,
    "ranked_by": "val/accuracy",
    "metrics": {"train/loss": 0.53, "val/accuracy": 0.94},
    "kept": None,
    "attempts": [
        {"number": 1, "outcome": None, "reason": None, "started_at": "2026-01-01T12:00:01Z", "finished_at": None}
    ],
    "restarts": 0,
    "created_at": "2026-01-01T12:00:00Z",
    "started_at": "2026-01-01T12:00:01Z",
    "finished_at": None,
    "mlflow": None,
    "mlflow_problem": None,
    "params_sha256": None,
    "sweep": None,
    "verification": None,
}


class JobDatasetView(BaseModel):
    """The version of a dataset that a job is trained on."""

    name: str
    version: int
    digest: str = Field(description="SHA-256 of the content.")
    deleted: bool | None = Field(
        None, description="Whether it was deleted since. Null in lists, and in answers to changes."
    )


class KeptView(BaseModel):
    """The parameters that are kept: those with the best value of `checkpoints.best`, or the last ones without it."""

    step: int = Field(description="Step after which they were reached.")
    epoch: int
    metrics: dict[str, float | None] = Field(
        description="All metrics on the validation rows, by name; null if one is not finite.",
        examples=[{"val/loss": 0.21, "val/accuracy": 0.94}],
    )
    details: dict[str, JsonValue] | None = Field(
        None,
        description="The names of the `classes` or `targets`, and lists in their order. Of labels: `confusion`, the "
        "number of rows by true and predicted label, and `per_label`, precision, recall, F1 and number of rows. Of a "
        "regression: `per_target`, the metrics of each target, null where one is not finite. Null in lists of jobs.",
    )


class JobView(BaseModel):
    """A job."""

    model_config = ConfigDict(json_schema_extra={"examples": [RUNNING_JOB]})

    id: str
    name: str
    experiment: str
    state: State
    reason: str | None = Field(description="Why it is in this state, as a word and a sentence.")
    labels: dict[str, str]
    priority: int
    spec: dict[str, Any] = Field(description="The spec with every default filled in.")
    dataset: JobDatasetView | None = Field(description="Version of the dataset; null if it has none.")
    progress: ProgressView
    task: Task = Field(description="What the model is trained for, as the loss and the dataset decide it.")
    positive_class: str | None = Field(
        description="Of two classes, the one of label 1: precision, recall, F1, average precision and ROC AUC are its "
        "figures. Null otherwise."
    )
    ranked_by: str | None = Field(
        description="Metric on the validation rows by which jobs of its task are ranked; null without such rows."
    )
    metrics: dict[str, float | None] = Field(
        description="The latest value of each series; null if it is not finite. Those under train/ are the means over "
        "the last epoch that was completed, or before that the values of the last step."
    )
    kept: KeptView | None = Field(
        description="The metrics of the parameters that are kept, those that the trained model has; null before the "
        "end of training."
    )
    attempts: list[AttemptView]
    restarts: int = Field(description="How often it was restarted from a checkpoint after a fault.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    mlflow: MlflowView | None = Field(description="Null until the job is exported to MLflow.")
    mlflow_problem: str | None = Field(description="What MLflow refuses, and what to do; null if there is nothing.")
    params_sha256: str | None = Field(
        description="SHA-256 over the parameters' little-endian float32 bytes, in order of name; null before the first "
        "checkpoint."
    )
    sweep: MembershipView | None = Field(description="Null for a job that is not a member of a sweep.")
    verification: VerificationView | None = Field(description="Null for a job that verifies no certificate.")


class JobList(BaseModel):
    """A page of jobs, newest first."""

    data: list[JobView]
    has_more: bool = Field(
        description="Whether there are more jobs; the next page has starting_after = the last id here."
    )


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
    """An event of a job."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [END]})

    id: int = Field(description="Increases with time.")
    time: datetime
    kind: str = Field(description="state, attempt_started, attempt_finished, training_started, restarted and others.")
    attempt: int | None = Field(description="Number of the attempt that it belongs to.")
    from_state: State | None
    to_state: State | None
    reason: str | None
    data: dict[str, Any] | None


class LiveView(BaseModel):
    """State and progress of a job, in the `progress` messages of its event stream."""

    state: State
    progress: ProgressView
    metrics: dict[str, float | None]


class EventList(BaseModel):
    """A page of events of a job, oldest first."""

    data: list[EventView]
    has_more: bool = Field(
        description="Whether there are more events; the next page has starting_after = the last id here."
    )


Step = Annotated[int, Field(ge=0, lt=2**63)]  # SQL integers have 64 bits


class MetricsQuery(BaseModel):
    """Query parameters of a job's metrics."""

    name: list[str] = Field([], description="Only these series; may be repeated.")
    from_step: Step | None = None
    to_step: Step | None = None
    max_points: int | None = Field(
        None,
        ge=FEWEST,
        lt=2**63,
        description="Maximum number of points of a series. A longer series is cut into equal pieces, and the first, "
        "last, smallest and largest value of each piece are kept.",
    )


class SeriesView(BaseModel):
    """A series in columns."""

    steps: list[int] = Field(description="Global optimiser steps.")
    values: list[float | None] = Field(description="Null for a value that is not finite.")


class MetricsView(BaseModel):
    """Series by name."""

    data: dict[str, SeriesView]


def job_view(job: "Job", mlflow_link: str | None, *, details: bool = False) -> JobView:
    """A job's row as the API returns it; `mlflow_link` is the base of links to MLflow."""
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
        task=cast("Task", job.task),
        positive_class=positive_class(job.dataset.get("classes", ())),
        ranked_by=next(iter(job.validation_metrics), None),
        metrics=latest_values(job.latest_metrics),
        kept=None if job.kept is None else KeptView(**job.kept, details=_details(job) if details else None),
        attempts=[AttemptView.model_validate(attempt) for attempt in job.attempts],
        restarts=job.restarts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        mlflow=mlflow_view(job, mlflow_link),
        mlflow_problem=job.mlflow_problem,
        params_sha256=job.params_sha256,
        sweep=None if job.sweep_id is None else MembershipView(id=job.sweep_id, overrides=job.overrides or {}),
        verification=None if job.verification is None else verification_view(job.verification),
    )


def _details(job: "Job") -> dict[str, Any] | None:
    """The details of the evaluation, with the names that belong to its lists."""
    return job.evaluation and {**named_outputs(job.dataset), **job.evaluation}


def latest_values(latest_metrics: dict[str, Any]) -> dict[str, float | None]:
    """Names and values of a row's latest metrics.

    Those of steps have the means over the last epoch that was completed, if there is one.
    """
    values = {name: value for name, (_, value) in sorted(latest_metrics.items())}
    means = {name for name in values if name.endswith(epoch_mean(""))}
    return {name: values.get(epoch_mean(name), value) for name, value in values.items() if name not in means}


def mlflow_view(job: "Job", mlflow_link: str | None) -> MlflowView | None:
    """A job's run in MLflow as the API returns it; None until it is exported."""
    run = job.mlflow_run
    if run is None:
        return None
    url = None if mlflow_link is None else f"{mlflow_link}/{run_page(run.experiment_id, run.run_id)}"
    return MlflowView(run_id=run.run_id, url=url, complete=job.mlflow_finished)
