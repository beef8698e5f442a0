"""Types of the API's answers. Fields that a newer service adds are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
TERMINAL_OF_SWEEPS = TERMINAL | {"empty"}
STOPPED = "stopped"  # in the counts of a sweep: jobs that its own rule has cancelled


class Progress(TypedDict):
    """Progress of training: epochs and global optimizer steps done."""

    epoch: int
    step: int
    total_steps: int


class Attempt(TypedDict):
    """An attempt at running a job; times are in ISO 8601 format."""

    number: int
    outcome: str | None
    reason: str | None
    started_at: str
    finished_at: str | None


class MlflowRun(TypedDict):
    """A job's run in MLflow; `complete` once everything has been exported to it."""

    run_id: str
    url: str | None
    complete: bool


class Membership(TypedDict):
    """The sweep that a job belongs to, and the fields that it set, by dotted paths."""

    id: str
    overrides: dict[str, Any]


class JobDataset(TypedDict):
    """The version of a dataset that a job is trained on."""

    name: str
    version: int
    digest: str
    deleted: bool | None  # since; None in lists of jobs


class Artifact(TypedDict):
    """A file of a job: its path, its kind (such as "model"), its size in bytes, and the SHA-256 of its content."""

    path: str
    kind: str
    size: int
    sha256: str
    media_type: str


class MissingArtifact(TypedDict):
    """A file that a job should have, and why it cannot be given; without a path all files of the kind."""

    kind: str
    path: str | None
    reason: str


class Artifacts(TypedDict):
    """The files of a job."""

    data: list[Artifact]
    missing: list[MissingArtifact]


class Kept(TypedDict):
    """The parameters that are kept, those after a step, and their metrics; lists of jobs have no details."""

    step: int
    epoch: int
    metrics: dict[str, float | None]
    details: dict[str, Any] | None


class Difference(TypedDict):
    """A field of a certificate that is not what a verification found; steps are None where there are none."""

    field: str
    message: str
    after_step: int | None
    by_step: int | None
    first_step: int | None


class Interval(TypedDict):
    """The steps above `after_step`, up to and including `by_step`."""

    after_step: int
    by_step: int


class Replay(Interval):
    """An interval that is trained again; `equal` is None until it was."""

    equal: bool | None


class Sample(TypedDict):
    """The intervals that a verification replays, out of the `replayable` ones; `seed` chooses them again."""

    seed: int
    chosen: list[Replay]
    intervals: int
    replayable: int
    total_steps: int
    replayed_steps: int
    not_covered: list[Interval]
    probability: float


class Verification(TypedDict):
    """What a job has found that verifies a certificate; `equal` is None until it is known."""

    of: str
    root: str
    equal: bool | None
    first_difference: Difference | None
    differences: list[Difference]
    notes: list[str]
    sample: Sample | None


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
    task: str
    positive_class: str | None
    ranked_by: str | None
    metrics: dict[str, float | None]
    kept: Kept | None
    attempts: list[Attempt]
    restarts: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    mlflow: MlflowRun | None
    mlflow_problem: str | None
    params_sha256: str | None
    sweep: Membership | None
    verification: Verification | None


class SweepMlflowRun(MlflowRun):
    """A sweep's run in MLflow, the parent of its jobs' runs; `compare_url` is MLflow's comparison of them."""

    compare_url: str | None


class SweepData(TypedDict):
    """A sweep; `jobs` is the number of jobs in each state."""

    id: str
    name: str
    experiment: str
    state: str
    jobs: dict[str, int]
    spec: dict[str, Any]
    parallel: int | None
    created_at: str
    mlflow: SweepMlflowRun | None
    mlflow_problem: str | None


class Member(TypedDict):
    """A job of a sweep.

    `metrics` are its latest values and, with names that begin with "kept/", those of the parameters that are kept;
    `best` are its best validation metrics.
    """

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
    """Statistics of a metric over `n` jobs; `std` is the sample standard deviation."""

    mean: float | None
    std: float | None
    n: int


class Group(TypedDict):
    """Jobs that differ only in the seed; the metrics are those of the `n` that succeeded, named as in `Member`."""

    overrides: dict[str, Any]
    loss: str
    jobs: list[str]
    n: int
    left_out: int
    metrics: dict[str, Statistic]


class Comparison(TypedDict):
    """The jobs of a sweep, their groups, and the positions of the groups with the best mean of `kept/<metric>`.

    `metrics` are those that all jobs have, by which the groups can be ranked.
    """

    id: str
    mlflow: SweepMlflowRun | None
    metric: str
    metrics: list[str]
    members: list[Member]
    groups: list[Group]
    left_out: int
    best: int | None
    best_per_loss: dict[str, int]


class Event(TypedDict):
    """An event of a job."""

    id: int
    time: str
    kind: str
    attempt: int | None
    from_state: str | None
    to_state: str | None
    reason: str | None
    data: dict[str, Any] | None


class FieldNote(TypedDict):
    """A message about a field."""

    field: str
    message: str


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
    """A column of a dataset's source; `exact` if its numbers are stored without rounding.

    `kind` is "number", "category" or "date", `distinct` how many values differ, if it is known.
    """

    name: str
    type: str
    kind: str
    width: int
    exact: bool
    examples: list[str]
    distinct: int | None
    missing: int


class LeftOut(TypedDict):
    """A column of a dataset's source that is no feature."""

    name: str
    reason: str


class Statistics(TypedDict):
    """Statistics of each feature, in the order of the features; None for categories."""

    mean: list[float | None]
    std: list[float | None]
    min: list[float | None]
    max: list[float | None]


class Version(TypedDict):
    """A version of a dataset and the digest of its content."""

    version: int
    digest: str
    rows: int
    created_at: str


class RegisteredDataset(Dataset):
    """A version of a dataset that was registered, and what is allowed but may be a mistake."""

    warnings: list[FieldNote]


class DatasetDetail(Dataset):
    """A version of a dataset with its columns and statistics, and what is allowed but may be a mistake."""

    columns: list[Column]
    left_out: list[LeftOut]
    recognized: list[str]
    target_columns: list[Column]
    statistics: Statistics | None
    warnings: list[FieldNote]
    class_counts: list[int]
    versions: list[Version]


class PreviewRow(TypedDict):
    """A row of a dataset, with a label or targets; None where a value is missing."""

    features: list[float | str | None]
    label: str | None
    targets: list[float]


class Example(TypedDict):
    """A dataset that scikit-learn brings; without classes it has a number to predict."""

    name: str
    description: str
    rows: int
    features: int
    classes: list[str]
    shape: list[int] | None


class DatasetOptions(TypedDict, total=False):
    """How files are read as a dataset, where it does not follow from the files."""

    features: Sequence[str]
    targets: Sequence[str]
    classes: Sequence[str]
    categories: Sequence[str]
    exclude: Sequence[str]
    split_column: str
    shape: Sequence[int]
    format: str


class Layer(TypedDict):
    """A layer of a model; `shape` is that of its output, with "batch" for the number of rows."""

    name: str
    type: str
    shape: list[int | str]
    parameters: int


class PreparedColumn(TypedDict):
    """A column of a dataset, and the numbers that a model reads for it: `width` of them, from position `first` on."""

    column: str
    kind: str
    prepared: str
    first: int
    width: int
    names: list[str]


class Preview(TypedDict):
    """What would run if a spec were submitted."""

    spec: dict[str, Any]
    task: str
    positive_class: str | None
    metrics: list[str]
    parameters: int
    prepared: list[PreparedColumn]
    layers: list[Layer]
    train_rows: int
    validation_rows: int
    steps_per_epoch: int
    total_steps: int
    memory_per_worker_bytes: int
    warnings: list[FieldNote]
