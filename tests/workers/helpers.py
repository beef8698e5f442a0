from __future__ import annotations

import copy
import dataclasses
import secrets
import types
import typing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import reject
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from core import Registered, WeightedSum, registered
from core.registry import item_type
from tests.prepared import prepare_parquet
from workers.data.dataset import DatasetInfo
from workers.exchange.zeromq import KEY_BYTES, Exchange, Membership, Order
from workers.job.fields import simple_types
from workers.job.objects import scaling_of
from workers.job.resolve import resolve
from workers.job.spec import JobSpec
from workers.record.checkpoint import latest
from workers.record.events import Checkpointed, Event, Progress
from workers.training.trainer import Assignment, End, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOSSES = registered("loss")
KINDS = ("layer", "loss", "optimizer", "schedule", "initializer", "penalty", "clipping", "augmentation")
REGISTERED = [(kind, name) for kind in KINDS for name in registered(kind)]

Points = dict[str, dict[int, float]]

PEER_TIMEOUT = 30.0  # seconds

JOB: dict[str, Any] = {
    "name": "a job",
    "data": {"dataset": "blobs", "validation": 0.2},
    "model": {"layers": [{"type": "linear", "units": 32}, {"type": "relu"}, {"type": "linear", "units": 3}]},
    "loss": {"type": "hinge"},
    "regularization": {"l2": 0.001},
    "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": {"type": "cosine"}},
    "training": {"epochs": 3, "batch_size": 50, "seed": 5},
}


# Changes to the job above: random numbers, running statistics, a norm over all slices, a last batch that is not full.
EVERYTHING: dict[str, Any] = {
    "model.layers": [
        {"type": "linear", "units": 40},
        {"type": "batch_norm"},
        {"type": "leaky_relu"},
        {"type": "dropout"},
        {"type": "linear", "units": 3},
    ],
    "regularization": {"l1": 1e-4, "l2": 1e-3},
    "training.clipping": {"type": "norm", "limit": 0.7},
    "training.batch_size": 44,
}


def job(**changes: Any) -> dict[str, Any]:
    """The job above with dotted fields changed: job(**{"training.epochs": 3})."""
    changed = copy.deepcopy(JOB)
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = changed
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return changed


def blobs(directory: Path, *, rows: int = 333, features: int = 20, classes: int = 3, seed: int = 1) -> DatasetInfo:
    """A dataset of overlapping normal clouds, one a class; features of different scales, one of them constant."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    centers = random.normal(size=(classes, features))
    values = (centers[labels] + 2 * random.normal(size=(rows, features))) * np.linspace(0.1, 30, features) + 5
    values[:, -1] = 7
    columns = {f"x{index}": values[:, index] for index in range(features)} | {"label": labels}
    pq.write_table(pa.table(columns), directory / "blobs.parquet")
    return prepare_parquet(directory / "blobs.parquet", directory / "datasets", "label")


def images(directory: Path, *, dtype: str = "uint8", changed: int | None = None, parts: Any = ()) -> DatasetInfo:
    """A dataset of small images in three classes, which differ in where they are bright; sorted by class.

    Its split column has `parts`, an array of text, if there are any; the image of the row `changed` is another one.
    """
    rows, shape = 200, (5, 6, 2)
    random = np.random.default_rng(1)
    labels = np.sort(random.integers(0, 3, rows))
    values = random.integers(0, 200, (rows, *shape))
    values[np.arange(rows), :, labels] += 55
    if changed is not None:
        values[changed] = 255 - values[changed]
    columns = {"features": pa.FixedShapeTensorArray.from_numpy_ndarray(values.astype(dtype)), "label": pa.array(labels)}
    names, codes, counts = np.unique(parts, return_inverse=True, return_counts=True)
    if len(names):
        columns["split"] = pa.array(codes, pa.uint8())
    batch = pa.record_batch(columns)
    path = directory / f"images-{dtype}-{changed}.arrow"
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write(batch)
    splits = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return DatasetInfo(str(path), "0" * 64, rows, prod(shape), ("a", "b", "c"), dtype, shape, splits=splits)


def assignment(spec: dict[str, Any], dataset: DatasetInfo, directory: Path, *, prepared: bool = True) -> Assignment:
    """What a supervisor gets, or, `prepared`, what it hands on to its workers."""
    resolved = resolve(JobSpec.model_validate(spec), dataset).spec
    scaling = scaling_of(resolved, dataset) if prepared else None
    # A name of its own for each, as Ray keeps the names of actors.
    name = f"job-{secrets.token_hex(8)}"
    return Assignment(name, 1, resolved.model_dump(mode="json"), dataset, scaling, directory)


def series_of(events: list[Event]) -> dict[str, list[tuple[int, float]]]:
    """All points by metric, in the order of their events, without those that depend on the clock."""
    points: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if isinstance(event, Progress):
            for name, series in event.series.items():
                if not name.startswith("time/"):
                    steps, values = series.steps.tolist(), series.values.tolist()
                    points.setdefault(name, []).extend(zip(steps, values, strict=True))
    return points


def points_of(events: list[Event]) -> Points:
    """All points by metric and step; one that was told twice has the same value."""
    found: Points = {}
    for name, points in series_of(events).items():
        for step, value in points:
            assert found.setdefault(name, {}).setdefault(step, value) == value, (
                f"{name} of step {step} was told otherwise"
            )
    return found


@dataclass
class Outcome:
    """What came of an attempt: for each worker its end, or its error; the leader's events."""

    finished: list[End | BaseException] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    reporters: set[int] = field(default_factory=set)

    @property
    def series(self) -> dict[str, list[tuple[int, float]]]:
        return series_of(self.events)

    @property
    def params_sha256(self) -> str:
        """Of the last checkpoint."""
        return [event.params_sha256 for event in self.events if isinstance(event, Checkpointed)][-1]


def no_order() -> Order:
    return Order.NONE


def train(given: Assignment, *, checkpoint: Path | None = None, ordered: Callable[[], Order] = no_order) -> Outcome:
    """Train with one thread for each worker, exchanging over the loopback interface."""
    workers = given.spec["resources"]["workers"]
    key = secrets.token_bytes(KEY_BYTES)
    memberships = [Membership(rank, workers, given.attempt, key) for rank in range(workers)]
    exchanges = [Exchange(membership, "127.0.0.1", PEER_TIMEOUT) for membership in memberships]
    addresses = [exchange.address for exchange in exchanges]
    outcome = Outcome()

    def report(rank: int, event: Event) -> None:
        outcome.reporters.add(rank)
        outcome.events.append(event)

    def work(rank: int) -> End | BaseException:
        with exchanges[rank] as exchange:
            exchange.connect(addresses)
            try:
                trainer = Trainer(
                    given,
                    memberships[rank],
                    exchange,
                    checkpoint=checkpoint,
                    report=lambda event: report(rank, event),
                    ordered=ordered,
                )
                return trainer.run()
            except Exception as error:  # noqa: BLE001  the tests look at it
                return error

    # BLAS's number of threads belongs to the process: a trainer that is done must not give it back to the others.
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        outcome.finished = list(pool.map(work, range(workers)))
    return outcome


def completed(given: Assignment) -> Outcome:
    """Train to the end."""
    outcome = train(given)
    for finished in outcome.finished:
        if isinstance(finished, BaseException):
            raise finished
    assert set(outcome.finished) <= {End.COMPLETED, End.EARLY}
    return outcome


def last_checkpoint(directory: Path) -> Path:
    """Where the newest checkpoint of a job lies."""
    found = latest(directory)
    assert found is not None
    return found


def checkpoint_files(directory: Path) -> list[bytes]:
    """Content of the newest checkpoint's files that hold arrays."""
    return [path.read_bytes() for path in sorted(last_checkpoint(directory).glob("*.safetensors"))]


def instances(cls: type[Registered]) -> st.SearchStrategy[Registered]:
    """Instances of a registered class with any hyperparameters that it takes together."""
    if cls is WeightedSum:
        return _weighted_sums()
    fields = dataclasses.fields(cls)
    strategies = {each.name: _values(cls.annotations[each.name], each.metadata, cls.kind) for each in fields}

    def build(values: dict[str, Any]) -> Registered:
        try:
            return cls(**values)
        except ValueError:
            reject()

    return st.fixed_dictionaries(strategies).map(build)


def _weighted_sums() -> st.SearchStrategy[Registered]:
    """Sums of losses that read the same targets, a weight for each, which are too rare to be met by chance."""
    of_target = st.sampled_from(["labels", "values"]).map(
        lambda target: [LOSSES[name] for name in simple_types("loss") if LOSSES[name].target == target]
    )
    weighted = of_target.flatmap(
        lambda losses: st.lists(
            st.tuples(st.sampled_from(losses).flatmap(instances), st.floats(-1e9, 1e9)), min_size=1, max_size=3
        )
    )
    return weighted.map(lambda pairs: WeightedSum(*zip(*pairs, strict=True)))


def _values(annotation: Any, metadata: Any, inside: str) -> st.SearchStrategy[Any]:  # noqa: PLR0911  one per type
    ge, gt, le, lt = (metadata[bound] for bound in ("ge", "gt", "le", "lt"))
    low, high = ge if gt is None else gt, le if lt is None else lt
    if (item := item_type(annotation)) is not None:
        return st.lists(_values(item, metadata, inside), max_size=3).map(tuple)
    if typing.get_origin(annotation) is Literal:
        return st.sampled_from(typing.get_args(annotation))
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        return st.none() | _values(typing.get_args(annotation)[0], metadata, inside)
    if annotation is bool:
        return st.booleans()
    if annotation is str:
        return st.text()
    if annotation is int:
        lowest = low if low is None or gt is None else low + 1
        highest = high if high is None or lt is None else high - 1
        return st.integers(lowest, highest)
    if annotation is float:
        return st.floats(
            low,
            high,
            exclude_min=gt is not None,
            exclude_max=lt is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    names = simple_types(inside) if annotation.kind == inside else tuple(registered(annotation.kind))
    return st.sampled_from([registered(annotation.kind)[name] for name in names]).flatmap(instances)
