from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.fixtures.checkpoints import header_of, read_safetensors, sha256_in_order_of_name
from tests.workers.fixtures.helpers import assignment, checkpoint_files, completed, job, last_checkpoint
from workers.training.assignment import End

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workers.fixtures.helpers import Outcome
    from workers.data.dataset import DatasetInfo

pytestmark = pytest.mark.usefixtures("no_fsync")

EPOCHS, STEPS_PER_EPOCH = 25, 6
# A learning rate at which the loss goes up and down.
OSCILLATING = {"training.epochs": EPOCHS, "optimizer": {"type": "sgd", "lr": 0.3}}

STOPPING: list[dict[str, Any]] = [
    {"metric": "val/loss", "patience": 1},
    {"metric": "val/loss", "patience": 3},
    {"metric": "val/softmax", "patience": 2, "min_delta": 0.05},
    {"metric": "val/accuracy", "patience": 4},
    {"metric": "val/accuracy", "patience": 2, "min_delta": 0.02},
]


@pytest.fixture(scope="module")
def whole(dataset: DatasetInfo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run without early stopping, with a checkpoint after every epoch."""
    directory = tmp_path_factory.mktemp("whole")
    spec = job(**OSCILLATING, checkpoints={"every_epochs": 1, "keep": EPOCHS})
    return directory, completed(assignment(spec, dataset, directory))


def epoch_to_stop_at(values: list[float], metric: str, patience: int, min_delta: float = 0.0) -> int:
    sign = -1 if metric == "val/accuracy" else 1
    best, since = values[0], 0
    for epoch, value in enumerate(values[1:], start=2):
        if sign * value < sign * best - min_delta:
            best, since = value, 0
        else:
            since += 1
        if since == patience:
            return epoch
    raise AssertionError("the run never has `patience` epochs without an improvement")


def checkpoint_after(directory: Path, epoch: int) -> Path:
    return directory / "checkpoints" / f"{epoch * STEPS_PER_EPOCH:012d}"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("stopping", STOPPING, ids=str)
def test_training_stops_at_the_epoch_computed_from_the_whole_run(
    tmp_path: Path, dataset: DatasetInfo, whole: tuple[Path, Outcome], stopping: dict[str, Any], workers: int
) -> None:
    values = [value for _, value in whole[1].series[stopping["metric"]]]
    epoch = epoch_to_stop_at(values, **stopping)
    assert 2 <= epoch < EPOCHS
    spec = job(**OSCILLATING, **{"training.early_stopping": stopping, "resources.workers": workers})
    outcome = completed(assignment(spec, dataset, tmp_path))
    assert outcome.finished == [End.EARLY] * workers
    for name, points in whole[1].series.items():
        assert outcome.series[name] == [point for point in points if point[0] <= epoch * STEPS_PER_EPOCH]
    assert last_checkpoint(tmp_path).name == f"{epoch * STEPS_PER_EPOCH:012d}"
    there = checkpoint_after(whole[0], epoch)
    assert checkpoint_files(tmp_path) == [path.read_bytes() for path in sorted(there.glob("*.safetensors"))]
    assert header_of(last_checkpoint(tmp_path))["patience"]["stale_epochs"] == stopping["patience"]


def test_the_last_step_of_a_run_that_stops_early_is_reported(
    tmp_path: Path, dataset: DatasetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if only some steps are reported."""
    monkeypatch.setattr("workers.record.history.MOST_REPORTED", 20)
    outcome = completed(
        assignment(job(**OSCILLATING | {"training.early_stopping": {"patience": 1}}), dataset, tmp_path)
    )
    steps = [step for step, _ in outcome.series["train/loss"]]
    last = header_of(last_checkpoint(tmp_path))["step"]
    assert last < EPOCHS * STEPS_PER_EPOCH
    assert last % 8
    assert steps == [1, *range(8, last, 8), last]


@pytest.mark.parametrize("metric", ["val/loss", "val/accuracy", "val/hinge", "val/softmax"])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_best_parameters_are_those_of_the_best_epoch(
    tmp_path: Path, dataset: DatasetInfo, whole: tuple[Path, Outcome], metric: str, workers: int
) -> None:
    values = [value for _, value in whole[1].series[metric]]
    best = max(values) if metric == "val/accuracy" else min(values)
    epoch = values.index(best) + 1
    assert epoch < EPOCHS
    spec = job(**OSCILLATING, checkpoints={"best": metric}, resources={"workers": workers})
    completed(assignment(spec, dataset, tmp_path))
    last = last_checkpoint(tmp_path)
    assert (last / "best.safetensors").read_bytes() == (
        checkpoint_after(whole[0], epoch) / "model.safetensors"
    ).read_bytes()
    assert (last / "model.safetensors").read_bytes() != (last / "best.safetensors").read_bytes()
    tensors = read_safetensors(last / "best.safetensors")
    parameters = {name: tensor for name, tensor in tensors.items() if not name.startswith("inputs.")}
    assert header_of(last)["best"] == {
        "metric": metric,
        "value": best,
        "step": epoch * STEPS_PER_EPOCH,
        "params_sha256": sha256_in_order_of_name(parameters),
    }


def test_there_is_no_best_before_the_first_epoch_and_without_validation(tmp_path: Path, dataset: DatasetInfo) -> None:
    spec = job(**{"checkpoints": {"every_steps": 3, "keep": 9}, "training.epochs": 1})
    completed(assignment(spec, dataset, tmp_path / "with"))
    found = [(path / "best.safetensors").exists() for path in sorted((tmp_path / "with" / "checkpoints").iterdir())]
    assert found == [False, True]
    completed(assignment(job(**{"data.validation": 0.0}), dataset, tmp_path / "without"))
    last = last_checkpoint(tmp_path / "without")
    assert not (last / "best.safetensors").exists()
    assert header_of(last)["best"] is None
