"""What the API answers. A newer service may send more than stands here; it is handed on as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
LAST_OF_SWEEPS = TERMINAL | {"empty"}
STOPPED = "stopped"  # of a sweep's jobs: cancelled by its own rule


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


class Membership(TypedDict):
    """The sweep that made a job, and the fields that it set, by dotted paths."""

    id: str
    overrides: dict[str, Any]


class JobDataset(TypedDict):
    """The version of a dataset that a job is trained on."""

    name: str
    version: int
    digest: str


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
    dataset: JobDataset | None
    progress: Progress
    metrics: dict[str, float | None]
    attempts: list[Attempt]
    restarts: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    mlflow: MlflowRun | None
    params_sha256: str | None
    sweep: Membership | None


class SweepMlflowRun(MlflowRun):
    """A sweep's run in MLflow, under which those of its jobs stand, and where MLflow compares them."""

    compare_url: str | None


class SweepData(TypedDict):
    """A sweep; `jobs` is how many of its jobs are in each state."""

    id: str
    name: str
    experiment: str
    state: str
    jobs: dict[str, int]
    spec: dict[str, Any]
    parallel: int | None
    created_at: str
    mlflow: SweepMlflowRun | None


class Member(TypedDict):
    """A job of a sweep; `metrics` are its latest values, and `best` those of the validation that were best."""

    id: str
    name: str
    overrides: dict[str, Any]
    state: str
    reason: str | None
    metrics: dict[str, float | None]
    best: dict[str, float]
    steps: int
    seconds: float | None
    params_sha256: str | None
    mlflow: MlflowRun | None


class Statistic(TypedDict):
    """What `n` members have of a metric; `std` is the sample standard deviation."""

    mean: float | None
    std: float | None
    n: int


class Group(TypedDict):
    """The members that differ in the seed only: `n` have succeeded, and the metrics are theirs."""

    overrides: dict[str, Any]
    loss: str
    jobs: list[str]
    n: int
    left_out: int
    metrics: dict[str, Statistic]


class Comparison(TypedDict):
    """The members of a sweep, their groups, and the positions of the best groups by the mean of `metric`."""

    id: str
    mlflow: SweepMlflowRun | None
    metric: str
    members: list[Member]
    groups: list[Group]
    left_out: int
    best: int | None
    best_per_loss: dict[str, int]


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
    """A version of a dataset."""

    name: str
    version: int
    digest: str
    rows: int
    features: int
    dtype: str
    shape: list[int] | None
    classes: list[str]
    targets: int
    label: str | None
    split_column: str | None
    splits: dict[str, int]
    format: str
    source: str
    created_at: str


class Column(TypedDict):
    """A column of a dataset's source; `exact` where each of its numbers is kept as it was."""

    name: str
    type: str
    width: int
    exact: bool


class Statistics(TypedDict):
    """Figures of each feature, in their order."""

    mean: list[float]
    std: list[float]
    min: list[float]
    max: list[float]


class Version(TypedDict):
    """Which version of a dataset has which content."""

    version: int
    digest: str
    rows: int
    created_at: str


class DatasetDetail(Dataset):
    """A version of a dataset, and what was seen in its rows."""

    columns: list[Column]
    target_columns: list[Column]
    statistics: Statistics | None
    class_counts: list[int]
    versions: list[Version]


class PreviewRow(TypedDict):
    """A row of a dataset; it has a label or targets."""

    features: list[float]
    label: str | None
    targets: list[float]


class DatasetOptions(TypedDict, total=False):
    """What of some files is the dataset, where it does not follow from the files."""

    features: Sequence[str]
    targets: Sequence[str]
    classes: Sequence[str]
    split_column: str
    shape: Sequence[int]
    format: str


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
