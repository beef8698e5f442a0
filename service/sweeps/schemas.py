"""Sweeps as the API takes and shows them."""

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
from workers.job.fields import StrictModel
from workers.job.spec import Name, ValidationMetric

# The sweep names its members; see `SweepRequest.base`.
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

    name: Name = Field(description="The members are called after it: name-0, name-1 and so on.")
    experiment: Name = Field("default", description="Experiment in MLflow under which the members' runs appear.")
    base: dict[str, JsonValue] = Field(
        description="A job without name and experiment. What the sweep goes over may be left out."
    )
    over: Over | None = Field(None, description="What the members differ in, by dotted paths of fields.")
    seeds: list[Seed] = Field(
        [], max_length=MAX_MEMBERS, description=f"Each member is made once with each of them as {SEED}."
    )
    parallel: int | None = Field(
        None, ge=1, le=MAX_MEMBERS, description="How many members may run at once; default: as many as fit."
    )
    stopping: Stopping | None = Field(
        None, description="Rule by which members that are hopeless are cancelled before their end; none without it."
    )

    @model_validator(mode="after")
    def check_whole(self) -> Self:
        """Check what no single field shows."""
        size = (self.over.size if self.over else 1) * (len(self.seeds) or 1)
        if size > MAX_MEMBERS:
            raise ValueError(f"makes {size} jobs; at most {MAX_MEMBERS} are allowed")
        swept = self.over.swept if self.over else set()
        if named := swept.intersection(NAMING) or set(NAMING).intersection(self.base):
            raise ValueError(f"{min(named)} is said by the sweep itself, not by its base or what it goes over")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds has a seed twice")
        if self.seeds and SEED in swept:
            raise ValueError(f"goes over {SEED} twice: give either seeds or that field")
        return self


class SweepState(StrEnum):
    """How a sweep stands, from how its jobs stand."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EMPTY = "empty"


class SweepMlflowView(MlflowView):
    """The sweep's run in MLflow, under which those of its jobs stand."""

    compare_url: str | None = Field(description="The jobs compared in charts, those that differ in the seed as one.")


class SweepView(BaseModel):
    """A sweep."""

    id: str
    name: str
    experiment: str
    state: SweepState = Field(
        description="running: some have begun and some have not ended. Once all have ended: failed, or else cancelled, "
        "if any of them is, those apart that the sweep's own rule has cancelled. empty: all were deleted."
    )
    jobs: dict[str, int] = Field(
        description="How many jobs are in each state; those that the sweep's own rule has cancelled count as stopped.",
        examples=[{"running": 2, "queued": 9, "stopped": 1}],
    )
    spec: dict[str, Any] = Field(description="The sweep as it was asked for.")
    parallel: int | None
    created_at: datetime
    mlflow: SweepMlflowView | None = Field(description="Null until MLflow has been told.")


class SweepList(BaseModel):
    """Some sweeps, newest first."""

    data: list[SweepView]
    has_more: bool = Field(description="Whether sweeps follow; ask again with starting_after = the last id here.")


class MemberView(BaseModel):
    """A job of a sweep."""

    id: str
    name: str
    overrides: dict[str, JsonValue] = Field(description="Values of the fields, by dotted paths, that the sweep set.")
    state: State
    reason: str | None
    metrics: dict[str, float | None] = Field(
        description="The latest value of each series; null is not a finite number."
    )
    best: dict[str, float] = Field(description="The best finite value of each validation metric.")
    steps: int = Field(description="Global optimiser steps that are done.")
    seconds: float | None = Field(description="From its start to its end; null before that.")
    params_sha256: str | None
    mlflow: MlflowView | None


class StatisticView(BaseModel):
    """What several members have of a metric at their ends."""

    mean: float | None = Field(description="Null where no value is finite.")
    std: float | None = Field(description="Sample standard deviation (n - 1); null of fewer than two values.")
    n: int = Field(description="How many values there are; those that are not finite do not count.")


class GroupView(BaseModel):
    """The members that differ in the seed only."""

    overrides: dict[str, JsonValue] = Field(description=f"What they have in common: all but {SEED}.")
    loss: str = Field(description="Type of their loss.")
    jobs: list[str] = Field(description="Ids of all of them.")
    n: int = Field(description="How many have succeeded: the metrics are theirs.")
    left_out: int = Field(description="How many have not, or not yet.")
    metrics: dict[str, StatisticView]


class ComparisonView(BaseModel):
    """A sweep's members side by side, and taken together over the seeds."""

    id: str = Field(description="The sweep's.")
    mlflow: SweepMlflowView | None = Field(description="Null until MLflow has been told.")
    metric: ValidationMetric = Field(description="By its mean the best ones are found.")
    members: list[MemberView] = Field(description="In the order in which they were made.")
    groups: list[GroupView] = Field(description="In the order of their first members.")
    left_out: int = Field(description="How many members no group's metrics have, for they have not succeeded.")
    best: int | None = Field(description="Position of the best group; null as long as none has the metric.")
    best_per_loss: dict[str, int] = Field(description="Position of the best group of each type of loss.")


def sweep_mlflow_view(sweep: Sweep, mlflow_link: str | None) -> SweepMlflowView | None:
    """The sweep's run in MLflow, as the API shows it; None until MLflow has been told."""
    if sweep.mlflow_run_id is None or sweep.mlflow_experiment_id is None:
        return None
    url = compare_url = None
    if mlflow_link is not None:
        url = f"{mlflow_link}/{run_page(sweep.mlflow_experiment_id, sweep.mlflow_run_id)}"
        compare_url = f"{mlflow_link}/{charts_page(sweep.mlflow_experiment_id, sweep.id)}"
    return SweepMlflowView(run_id=sweep.mlflow_run_id, url=url, compare_url=compare_url, complete=sweep.mlflow_finished)
