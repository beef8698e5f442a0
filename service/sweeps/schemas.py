"""Sweeps as the API accepts and returns them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from service.jobs.mlflow_pages import charts_page, run_page
from service.jobs.schemas import HINGE_JOB, MlflowView
from service.jobs.states import State
from service.store.models import Sweep
from service.sweeps.expansion import SEED
from service.sweeps.search import MAX_MEMBERS, Over
from service.sweeps.stopping import Stopping
from workers.job.fields import FieldValueError, StrictModel
from workers.job.metrics import ValidationMetric
from workers.job.spec import Name

# The sweep sets these fields of its members; see `SweepRequest.base`.
NAMING = ("name", "experiment")
Seed = Annotated[int, Field(ge=0, lt=2**63)]

LOSSES_SWEEP: dict[str, Any] = {
    "name": "losses",
    "experiment": "hinge-vs-softmax",
    "base": {key: value for key, value in HINGE_JOB.items() if key not in NAMING},
    "over": {"grid": {"loss": [{"type": "hinge"}, {"type": "softmax"}], "optimizer.lr": [0.01, 0.1]}},
    "seeds": [0, 1, 2],
    "parallel": 2,
}


class SweepRequest(StrictModel):
    """Jobs that differ in some fields."""

    model_config = ConfigDict(json_schema_extra={"examples": [LOSSES_SWEEP]})

    name: Name = Field(description="Name of the sweep; its members are name-0, name-1 and so on.")
    experiment: Name = Field("default", description="Experiment in MLflow under which the members' runs appear.")
    base: dict[str, JsonValue] = Field(
        description="A job without name and experiment. Fields that the sweep sets may be omitted."
    )
    over: Over | None = Field(None, description="Fields in which the members differ, by dotted paths.")
    seeds: list[Seed] = Field(
        [], max_length=MAX_MEMBERS, description=f"Each member is created once with each of them as {SEED}."
    )
    parallel: int | None = Field(
        None, ge=1, le=MAX_MEMBERS, description="Maximum number of running members; default: as many as fit."
    )
    stopping: Stopping | None = Field(
        None, description="Rule that cancels the worst members before their end; default: none."
    )

    @model_validator(mode="after")
    def check_whole(self) -> Self:
        """Check combinations of fields."""
        size = (self.over.size if self.over else 1) * (len(self.seeds) or 1)
        if size > MAX_MEMBERS:
            raise FieldValueError("over", f"makes {size} jobs; at most {MAX_MEMBERS} are allowed")
        swept = self.over.swept if self.over else set()
        for place, fields in (("over", swept), ("base", set(self.base))):
            if named := fields.intersection(NAMING):
                raise FieldValueError(
                    place, f"{min(named)} is set by the sweep itself, and must not be in base or over"
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise FieldValueError("seeds", "has a duplicate seed")
        if self.seeds and SEED in swept:
            raise FieldValueError("seeds", f"sets {SEED}, as over does: give either seeds or that field")
        return self


class SweepState(StrEnum):
    """State of a sweep, from the states of its jobs."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EMPTY = "empty"


class SweepMlflowView(MlflowView):
    """The sweep's run in MLflow, the parent of the runs of its jobs."""

    compare_url: str | None = Field(
        description="Page that compares the jobs in charts, grouped by everything but the seed."
    )


class SweepView(BaseModel):
    """A sweep."""

    id: str
    name: str
    experiment: str
    state: SweepState = Field(
        description="running: some jobs have started and some have not ended. Once all have ended: failed or cancelled "
        "if any job is, except for jobs that the stopping rule has cancelled. empty: all jobs were deleted."
    )
    jobs: dict[str, int] = Field(
        description="Number of jobs in each state; those that the stopping rule has cancelled count as stopped.",
        examples=[{"running": 2, "queued": 9, "stopped": 1}],
    )
    spec: dict[str, Any] = Field(description="The sweep as it was submitted.")
    parallel: int | None
    created_at: datetime
    mlflow: SweepMlflowView | None = Field(description="Null until the sweep is exported to MLflow.")
    mlflow_problem: str | None = Field(description="What MLflow refuses, and what to do; null if there is nothing.")


class SweepList(BaseModel):
    """A page of sweeps, newest first."""

    data: list[SweepView]
    has_more: bool = Field(
        description="Whether there are more sweeps; the next page has starting_after = the last id here."
    )


class MemberView(BaseModel):
    """A job of a sweep."""

    id: str
    name: str
    overrides: dict[str, JsonValue] = Field(description="Values of the fields, by dotted paths, that the sweep set.")
    state: State
    reason: str | None
    metrics: dict[str, float | None] = Field(
        description="The latest value of each series, by its name, and, by names that begin with kept/, the metrics of "
        "the parameters that are kept; null if not finite."
    )
    best: dict[str, float] = Field(description="The best finite value of each validation metric of all epochs.")
    steps: int = Field(description="Completed global optimiser steps.")
    seconds: float | None = Field(description="From start to end; null until it has ended.")
    params_sha256: str | None
    mlflow: MlflowView | None


class StatisticView(BaseModel):
    """Statistics of a metric over several members."""

    mean: float | None = Field(description="Null if no value is finite.")
    std: float | None = Field(description="Sample standard deviation (n - 1); null for fewer than two values.")
    n: int = Field(description="Number of finite values.")


class GroupView(BaseModel):
    """Members that differ only in the seed."""

    overrides: dict[str, JsonValue] = Field(description=f"The overrides that they share: all but {SEED}.")
    loss: str = Field(description="Type of the loss.")
    jobs: list[str] = Field(description="Ids of all members.")
    n: int = Field(description="Number of members that succeeded; the metrics are computed from them.")
    left_out: int = Field(description="Number of members that have not succeeded.")
    metrics: dict[str, StatisticView] = Field(description="Names are those of the members' metrics.")


class ComparisonView(BaseModel):
    """A sweep's members, and their groups over the seeds."""

    id: str = Field(description="Id of the sweep.")
    mlflow: SweepMlflowView | None = Field(description="Null until the sweep is exported to MLflow.")
    metric: ValidationMetric = Field(
        description="Metric by whose mean groups are ranked, with its values of the parameters that are kept."
    )
    metrics: list[str] = Field(
        description="Metrics that all members have, by which groups can be ranked; the default is the first, or that "
        "of the stopping rule."
    )
    members: list[MemberView] = Field(description="In the order of creation.")
    groups: list[GroupView] = Field(description="In the order of their first members.")
    left_out: int = Field(description="Number of members that have not succeeded and are in no statistic.")
    best: int | None = Field(description="Position of the best group; null while no group has the metric.")
    best_per_loss: dict[str, int] = Field(description="Position of the best group of each type of loss.")


def sweep_mlflow_view(sweep: Sweep, mlflow_link: str | None) -> SweepMlflowView | None:
    """The sweep's run in MLflow as the API returns it; None until it is exported."""
    if sweep.mlflow_run_id is None or sweep.mlflow_experiment_id is None:
        return None
    url = compare_url = None
    if mlflow_link is not None:
        url = f"{mlflow_link}/{run_page(sweep.mlflow_experiment_id, sweep.mlflow_run_id)}"
        compare_url = f"{mlflow_link}/{charts_page(sweep.mlflow_experiment_id, sweep.id)}"
    return SweepMlflowView(run_id=sweep.mlflow_run_id, url=url, compare_url=compare_url, complete=sweep.mlflow_finished)
