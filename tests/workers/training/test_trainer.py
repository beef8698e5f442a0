from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from threadpoolctl import threadpool_info, threadpool_limits

from core import BATCH, Graph, Linear, Optimizer, ParameterLayout, aligned_zeros, initialize
from tests.workers.fixtures.helpers import (
    DIVERGING,
    EPOCH_SERIES,
    STEP_SERIES,
    assignment,
    blobs,
    completed,
    job,
    last_checkpoint,
    train,
)
from workers.data.dataset import open_dataset
from workers.data.splitting import epoch_order, split
from workers.exchange.control import Command
from workers.exchange.messages import KEY_BYTES, Exchange, Membership
from workers.record.events import Checkpointed, Evaluated, Event, Progress, Started
from workers.training.assignment import End
from workers.training.trainer import NonFiniteStepError, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.data.dataset import DatasetInfo
    from workers.training.assignment import Assignment

pytestmark = pytest.mark.usefixtures("every_thread")

Float64 = np.ndarray[Any, np.dtype[np.float64]]

PER_STEP = set(STEP_SERIES)
PER_EPOCH = {name for name in EPOCH_SERIES if not name.startswith("time/")}


def read_parquet(dataset: DatasetInfo) -> tuple[Float64, np.ndarray[Any, np.dtype[np.int64]]]:
    """The rows of the source file, rounded to the precision in which they are stored."""
    frame = pd.read_parquet(Path(dataset.path).parents[1] / "blobs.parquet")
    labels = frame.pop("label").to_numpy()
    return frame.to_numpy().astype(np.float32).astype(np.float64), labels


def softmax(scores: Float64, labels: Any) -> tuple[Float64, Float64]:
    """Loss of each sample, and its gradient with respect to the scores."""
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    one_hot = np.eye(scores.shape[1])[labels]
    return -np.log((probabilities * one_hot).sum(axis=1)), probabilities - one_hot


def hinge(scores: Float64, labels: Any) -> tuple[Float64, Float64]:
    losses, gradient = np.zeros(len(scores)), np.zeros_like(scores)
    for row, label in enumerate(labels):
        for other in range(scores.shape[1]):
            excess = scores[row, other] - scores[row, label] + 1
            if other != label and excess > 0:
                losses[row] += excess
                gradient[row, other] += 1
                gradient[row, label] -= 1
    return losses, gradient


LOSSES = {"softmax": softmax, "hinge": hinge}


def reference(given: Assignment, loss: str) -> tuple[dict[str, list[float]], dict[str, Float64]]:
    """All points and the last weights of a linear classifier, by its formulas in float64 and without shards."""
    spec, dataset = given.spec, given.dataset
    training, optimizer, l2 = spec["training"], spec["optimizer"], spec["regularization"]["l2"]
    features, labels = read_parquet(dataset)
    rows, validation = split(dataset.rows, spec["data"]["validation"], training["seed"])
    deviation = features[rows].std(axis=0)
    features = (features - features[rows].mean(axis=0)) / np.where(deviation == 0, 1, deviation)

    graph = Graph()
    graph.add("scores", Linear(units=len(dataset.classes)), graph.input("features", (BATCH, dataset.features)))
    layout = ParameterLayout(graph.parameters())
    initial = layout.views(initialize(layout, training["seed"]))
    weight, bias = (initial[f"scores.{name}"].astype(np.float64) for name in ("weight", "bias"))
    velocities = [np.zeros_like(weight), np.zeros_like(bias)]

    size, done = training["batch_size"], 0
    steps = math.ceil(len(rows) / size)
    points: dict[str, list[float]] = {name: [] for name in PER_STEP | PER_EPOCH}
    for epoch in range(training["epochs"]):
        order, begin = epoch_order(rows, training["seed"], epoch), done
        for batch in range(steps):
            chosen = order[batch * size : (batch + 1) * size]
            scores = features[chosen] @ weight + bias
            losses, slopes = LOSSES[loss](scores, labels[chosen])
            gradients = [features[chosen].T @ slopes / len(chosen) + 2 * l2 * weight, slopes.mean(axis=0)]
            penalty = l2 * (weight**2).sum()
            points["train/data_loss"].append(losses.mean())
            points["train/reg_loss"].append(penalty)
            points["train/loss"].append(losses.mean() + penalty)
            points["train/accuracy"].append((scores.argmax(axis=1) == labels[chosen]).mean())
            points["train/active_fraction"].append((slopes != 0).any(axis=1).mean())
            points["grad/norm"].append(math.sqrt(sum((gradient**2).sum() for gradient in gradients)))
            rate = optimizer["lr"] * 0.5 * (1 + math.cos(math.pi * done / (steps * training["epochs"])))
            velocities = [optimizer["momentum"] * v + g for v, g in zip(velocities, gradients, strict=True)]
            weight, bias = weight - rate * velocities[0], bias - rate * velocities[1]
            done += 1
        sizes = [size] * (steps - 1) + [len(rows) - size * (steps - 1)]
        for name in PER_STEP - {"grad/norm"}:
            points[f"{name}_epoch"].append(np.average(points[name][begin:], weights=sizes))
        points["weights/norm"].append(math.sqrt((weight**2).sum()))
        scores = features[validation] @ weight + bias
        for name, of in LOSSES.items():
            points[f"val/{name}"].append(of(scores, labels[validation])[0].mean())
        points["val/loss"].append(points[f"val/{loss}"][-1])
        points["val/accuracy"].append((scores.argmax(axis=1) == labels[validation]).mean())
    last = {"scores.weight": weight, "scores.bias": bias}
    last |= {f"velocity.scores.{name}": each for name, each in zip(("weight", "bias"), velocities, strict=True)}
    return points, last


@pytest.mark.parametrize("loss", LOSSES)
def test_training_agrees_with_the_formulas(tmp_path: Path, dataset: DatasetInfo, loss: str) -> None:
    layers = [{"type": "linear", "units": 3}]
    spec = job(**{"model.layers": layers, "loss": {"type": loss}, "training.epochs": 7, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path)
    outcome = completed(given)
    expected, last = reference(given, loss)

    assert set(outcome.series) == PER_STEP | PER_EPOCH
    for name, points in outcome.series.items():
        steps = range(1, 43) if name in PER_STEP else range(6, 43, 6)
        assert [step for step, _ in points] == list(steps)
        if not expected[name]:
            continue  # the tests of metrics compare the others
        np.testing.assert_allclose([value for _, value in points], expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    # The loss decreases; otherwise there would be little to compare.
    assert expected["train/loss"][-1] < 0.5 * expected["train/loss"][0]
    saved = load_file(last_checkpoint(tmp_path) / "model.safetensors")
    saved |= load_file(last_checkpoint(tmp_path) / "optimizer.safetensors")
    for name, tensor in last.items():
        np.testing.assert_allclose(saved[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)


def test_running_statistics_are_those_of_the_batches(tmp_path: Path, dataset: DatasetInfo) -> None:
    """After one step on one shard, they equal an independent computation."""
    layers = [{"type": "batch_norm", "momentum": 0.25}, {"type": "linear", "units": 3}]
    one = {"epochs": 1, "batch_size": 266, "seed": 5, "shards": 1}
    changes = {"model.layers": layers, "training": one, "data.standardize": False}
    completed(assignment(job(**changes), dataset, tmp_path))
    features, _ = open_dataset(dataset)
    rows, _ = split(dataset.rows, 0.2, 5)
    saved = load_file(last_checkpoint(tmp_path) / "model.safetensors")
    chosen = features[rows].astype(np.float64)
    np.testing.assert_allclose(saved["0_batch_norm.mean"], 0.25 * chosen.mean(axis=0), rtol=1e-5, atol=1e-6)
    expected = 0.75 + 0.25 * chosen.var(axis=0)
    np.testing.assert_allclose(saved["0_batch_norm.variance"], expected, rtol=1e-4)


@pytest.mark.parametrize("step", [1, 4, 5, 8])
def test_all_workers_stop_after_the_same_step(tmp_path: Path, dataset: DatasetInfo, step: int) -> None:
    calls = []

    def pending_command() -> Command:
        calls.append(None)
        return Command.STOP if len(calls) == step else Command.NONE

    whole = completed(assignment(job(), dataset, tmp_path / "whole"))
    outcome = train(
        assignment(job(**{"resources.workers": 3}), dataset, tmp_path / "stopped"), pending_command=pending_command
    )
    assert outcome.finished == [End.STOPPED] * 3
    assert len(calls) == step
    assert not any(isinstance(event, Checkpointed) for event in outcome.events)
    assert not (tmp_path / "stopped").exists()
    last = outcome.events[-1]
    assert isinstance(last, Progress)
    assert (last.step, last.epoch) == (step, step // 6)
    assert outcome.series["train/loss"] == whole.series["train/loss"][:step]


@contextmanager
def lone_trainer(
    given: Assignment, report: Callable[[Event], None], pending_command: Callable[[], Command]
) -> Iterator[Trainer]:
    with Exchange(Membership(0, 1, 1, bytes(KEY_BYTES)), "127.0.0.1", 1) as exchange:
        yield Trainer(given, exchange, report=report, pending_command=pending_command)


def test_blas_has_one_thread_in_training(tmp_path: Path, dataset: DatasetInfo) -> None:
    """With more threads it gives other bits for some shapes."""

    def blas_threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    found: set[int] = set()

    def record() -> Command:
        found.update(blas_threads())
        return Command.NONE

    with (
        threadpool_limits(2),
        lone_trainer(assignment(job(), dataset, tmp_path), lambda _: None, record) as trainer,
    ):
        assert blas_threads() == {2}
        assert trainer.run() is End.COMPLETED
    assert found == {1}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_poisoned_step_ends_all_workers(tmp_path: Path, dataset: DatasetInfo, loss: str, workers: int) -> None:
    spec = job(**DIVERGING, **{"loss": {"type": loss}, "resources.workers": workers})
    outcome = train(assignment(spec, dataset, tmp_path / "out"))
    messages = {str(error) for error in outcome.finished}
    assert all(isinstance(error, NonFiniteStepError) for error in outcome.finished)
    assert len(messages) == 1
    poisoned = int(messages.pop().split("step ")[1].split(";")[0])
    assert poisoned > 1
    # Every loss before it was reported.
    assert [step for step, _ in outcome.series["train/loss"]] == list(range(1, poisoned))
    assert not (tmp_path / "out").exists()


def test_features_that_overflow_poison_the_first_step(tmp_path: Path) -> None:
    dataset = blobs(tmp_path, seed=2)
    spec = job(**{"data.standardize": False, "regularization.l2": 0.0, "optimizer.lr": 1e12, "training.epochs": 50})
    outcome = train(assignment(spec, dataset, tmp_path / "out"))
    assert isinstance(outcome.finished[0], NonFiniteStepError)


@pytest.mark.parametrize("clipping", [None, {"type": "norm", "limit": 1.0}])
def test_a_gradient_whose_norm_overflows_poisons_the_step(tmp_path: Path, clipping: dict[str, Any] | None) -> None:
    # Squares of gradients above 1.8e19 are infinite in float32. Clipping by an infinite norm would train nothing.
    dataset = blobs(tmp_path, seed=2)
    scale = {"data.standardize": False, "data.scale": {"subtract": 0.0, "divide": 1e-20}}
    tiny = {"optimizer.lr": 1e-30, "regularization.l2": 0.0}
    spec = job(**scale, **tiny, **{"loss": {"type": "hinge"}, "training.clipping": clipping})
    outcome = train(assignment(spec, dataset, tmp_path / "out"))
    assert isinstance(outcome.finished[0], NonFiniteStepError)
    assert "the norm of the gradient became inf in step 1" in str(outcome.finished[0])


def test_parameters_that_overflow_in_the_last_update_are_no_result(
    tmp_path: Path, dataset: DatasetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No spec may have such a rate.
    monkeypatch.setattr(Optimizer, "learning_rate", lambda *_: 3e38)
    changes = {"regularization.l2": 1e3, "training.epochs": 1, "training.batch_size": 266}
    outcome = train(assignment(job(**changes), dataset, tmp_path / "out"))
    (error,) = outcome.finished
    assert isinstance(error, NonFiniteStepError)
    assert "after step 1" in str(error)
    assert len(outcome.series["train/loss"]) == 1
    assert not (tmp_path / "out").exists()


def test_without_validation(tmp_path: Path, dataset: DatasetInfo) -> None:
    spec = job(**{"data.validation": 0.0, "resources.workers": 2})
    outcome = completed(assignment(spec, dataset, tmp_path))
    assert set(outcome.series) == {name for name in PER_STEP | PER_EPOCH if not name.startswith("val/")}
    assert (outcome.evaluated.step, outcome.evaluated.metrics) == (21, {})
    assert len(outcome.series["train/loss"]) == 3 * 7


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("clipping", [{}, {"training.clipping": {"type": "value", "limit": 0.01}}])
def test_the_time_of_the_exchange_is_reported(
    tmp_path: Path, dataset: DatasetInfo, workers: int, clipping: dict[str, Any]
) -> None:
    outcome = train(assignment(job(**{"resources.workers": workers}, **clipping), dataset, tmp_path))
    reported = [event.series for event in outcome.events if isinstance(event, Progress)]
    steps, exchanges = (
        np.concatenate([series[name].values for series in reported if name in series])
        for name in ("time/step_ms", "time/exchange_ms")
    )
    assert len(steps) == len(exchanges) == 3
    if workers == 1:
        assert (exchanges == 0).all(), "a single worker exchanges nothing"
    else:
        assert ((exchanges > 0) & (exchanges < steps)).all(), (exchanges, steps)


@pytest.mark.parametrize("changes", [{"training.batch_size": 250}, {"data.validation": 0.7}])
@pytest.mark.parametrize("cpus", [1, 2])
def test_training_and_evaluation_share_one_block_of_memory_for_each_thread(
    tmp_path: Path, dataset: DatasetInfo, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], cpus: int
) -> None:
    blocks: list[int] = []

    def allocate(shape: tuple[int], *options: Any) -> Any:
        blocks.append(shape[0])
        return aligned_zeros(shape, *options)

    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)
    monkeypatch.setattr("workers.machine.arenas.aligned_zeros", allocate)
    spec = job(**{"training.epochs": 1, "training.batch_size": 90, "resources.cpus_per_worker": cpus, **changes})
    completed(assignment(spec, dataset, tmp_path))
    rows = blocks[0] // (4 * 32 * 3)  # the input, and two arrays of 32 numbers for each row of the largest shard
    assert 20 < rows < 100
    assert blocks == [blocks[0]] * cpus


def test_fewer_validation_rows_than_shards(tmp_path: Path, dataset: DatasetInfo) -> None:
    results = []
    for workers in (1, 4):
        spec = job(**{"data.validation": 2.4 / 333, "resources.workers": workers})
        results.append(completed(assignment(spec, dataset, tmp_path)).series)
    assert results[0] == results[1]
    assert {value for _, value in results[0]["val/accuracy"]} <= {0.0, 0.5, 1.0}


def test_hinge_saturates_and_softmax_never_does(tmp_path: Path) -> None:
    dataset = blobs(tmp_path, features=60, seed=4)
    fractions = {}
    for loss in LOSSES:
        outcome = completed(assignment(job(**{"loss": {"type": loss}, "training.epochs": 10}), dataset, tmp_path))
        fractions[loss] = [value for _, value in outcome.series["train/active_fraction"]]
        assert outcome.series["val/loss"] == outcome.series[f"val/{loss}"]
        assert len(outcome.series["val/hinge"]) == len(outcome.series["val/softmax"]) == 10
        assert outcome.series["val/hinge"] != outcome.series["val/softmax"]
    assert fractions["softmax"] == [1.0] * len(fractions["softmax"])
    assert fractions["hinge"][0] > 0.5
    assert fractions["hinge"][-1] < 0.2


def test_the_compared_hinge_has_its_default_margin(tmp_path: Path, dataset: DatasetInfo) -> None:
    outcome = completed(assignment(job(loss={"type": "hinge", "margin": 3.0}), dataset, tmp_path))
    for (_, loss), (_, compared) in zip(outcome.series["val/loss"], outcome.series["val/hinge"], strict=True):
        assert loss > compared


def test_the_events_of_a_job(tmp_path: Path, dataset: DatasetInfo) -> None:
    outcome = completed(assignment(job(), dataset, tmp_path))
    started, first, *others, progress, checkpointed, evaluated = outcome.events
    assert isinstance(started, Started)
    assert (started.step, started.workers, started.changed) == (0, 1, {})
    assert started.fingerprint["numpy"] == np.__version__
    # The first loss is reported immediately.
    assert isinstance(first, Progress)
    assert first.step == 1
    assert all(isinstance(event, Progress) for event in others)
    assert isinstance(progress, Progress)
    assert (progress.epoch, progress.step) == (3, 18)
    assert isinstance(checkpointed, Checkpointed)
    assert checkpointed.step == 18
    assert isinstance(evaluated, Evaluated)
    assert evaluated.epoch == evaluated.step // 6


def test_a_spec_that_was_not_resolved_is_refused(tmp_path: Path, dataset: DatasetInfo) -> None:
    given = assignment(job(), dataset, tmp_path)
    given.spec["training"]["shards"] = None
    (error,) = train(given).finished
    assert isinstance(error, ValueError)
    assert "training.shards" in str(error)
