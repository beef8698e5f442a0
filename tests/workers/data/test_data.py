"""The data of a job from end to end: no bit depends on the workers or on how the same numbers are stored."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from core.kernels.gather import LARGE, PIECE
from tests.workers.fixtures.helpers import assignment, checkpoint_files, completed, images, job, last_checkpoint, train
from workers.data.dataset import open_dataset
from workers.data.rows import Batch, Batches
from workers.data.scaling import Scaling
from workers.exchange.control import Command
from workers.job.data import augmentations_of, split_rows
from workers.job.spec import JobSpec
from workers.machine.device import Mirror

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workers.data.dataset import DatasetInfo

PLACES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1), (5, 2)]

# Chunks that divide neither the rows nor the windows, and an incomplete last batch.
EVERYTHING: dict[str, Any] = {
    "data": {
        "dataset": "images",
        "validation": 0.25,
        "stratify": True,
        "shuffle": {"type": "chunks", "chunk": 7, "window": 4},
        "augmentation": [{"type": "shift", "pixels": 1}, {"type": "flip"}, {"type": "crop", "padding": 2}],
    },
    "training": {"epochs": 3, "batch_size": 44, "seed": 5, "shards": 11},
}


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use all threads, although the models here are small."""
    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)


def result(dataset: DatasetInfo, directory: Path, **changes: Any) -> tuple[Any, ...]:
    """The result of training: the hash of the parameters, every point, every array of the last checkpoint."""
    outcome = completed(assignment(job(**EVERYTHING | changes), dataset, directory))
    return outcome.params_sha256, outcome.series, checkpoint_files(directory)


def test_no_bit_depends_on_where_rows_are_gathered(tmp_path: Path) -> None:
    dataset = images(tmp_path)
    expected = result(dataset, tmp_path / "one")
    for workers, cpus in PLACES:
        places = {"workers": workers, "cpus_per_worker": cpus}
        assert result(dataset, tmp_path / f"{workers}-{cpus}", resources=places) == expected, (workers, cpus)


@pytest.mark.skipif(find_spec("numba") is None, reason="Numba is not installed: pip install 'gradfleet[fast]'")
def test_no_bit_depends_on_whether_rows_are_gathered_by_a_compiled_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = EVERYTHING["data"] | {"augmentation": []}
    places = {"workers": 1, "cpus_per_worker": 2}
    results = []
    for large in (LARGE, 0):
        monkeypatch.setattr("core.kernels.gather.LARGE", large)
        results.append(result(images(tmp_path), tmp_path / str(large), data=data, resources=places))
    assert results[0] == results[1]


def test_a_split_by_a_column_trains_and_validates_on_the_rows_of_its_values(tmp_path: Path) -> None:
    """No bit depends on the number of workers or on the rows that are left out."""
    parts = np.random.default_rng(3).choice(["train", "test", "unused"], 200, p=[0.6, 0.3, 0.1])
    dataset = images(tmp_path, parts=parts)
    data = {key: value for key, value in EVERYTHING["data"].items() if key not in {"validation", "stratify"}}
    data["split"] = {"train": ["train"], "validation": ["test"]}
    expected = result(dataset, tmp_path / "1", data=data)
    for workers in (2, 3):
        assert result(dataset, tmp_path / str(workers), data=data, resources={"workers": workers}) == expected
    trained, validated = split_rows(JobSpec.model_validate(job(data=data)), dataset, open_dataset(dataset)[1])
    assert set(parts[trained]) == {"train"}
    assert set(parts[validated]) == {"test"}
    assert len(trained) + len(validated) == np.count_nonzero(parts != "unused")
    left_out = int(np.flatnonzero(parts == "unused")[0])
    assert result(images(tmp_path, parts=parts, changed=left_out), tmp_path / "same", data=data) == expected
    other = images(tmp_path, parts=parts, changed=int(trained[0]))
    assert result(other, tmp_path / "other", data=data) != expected


SCALES: dict[str, dict[str, Any]] = {
    "standardized": {"standardize": True},
    "unscaled": {"standardize": False},
    "by one number": {"scale": {"divide": 255}},
    "by channel": {"scale": {"subtract": [100, 120.5], "divide": [51, 49.25]}},
}


@pytest.mark.parametrize("scale", SCALES)
def test_uint8_gives_the_same_bits_as_float32(tmp_path: Path, scale: str) -> None:
    data = EVERYTHING["data"] | SCALES[scale]
    results = [result(images(tmp_path, dtype=dtype), tmp_path / dtype, data=data) for dtype in ("uint8", "float32")]
    assert results[0] == results[1]


def test_given_numbers_scale_the_rows_and_are_saved_with_the_model(tmp_path: Path) -> None:
    data = EVERYTHING["data"] | {"scale": {"subtract": [100, 120.5], "divide": [51, 49.25]}}
    dataset = images(tmp_path)
    trained = assignment(job(**EVERYTHING | {"data": data}), dataset, tmp_path)
    completed(trained)
    saved = load_file(last_checkpoint(tmp_path) / "model.safetensors")
    assert saved["inputs.mean"].tolist() == [100, 120.5] * 30
    assert saved["inputs.deviation"].tolist() == [51, 49.25] * 30
    features, labels = open_dataset(dataset)
    inputs = np.zeros((4, 60), np.float32), np.zeros(4, np.int64)
    Batches(features, labels, trained.scaling).load(np.array([3, 0, 7, 3]), Mirror(inputs, inputs))
    channels = features[[3, 0, 7, 3]].reshape(4, 30, 2).astype(np.float64)
    expected = np.stack([(channels[..., 0] - 100) / 51, (channels[..., 1] - 120.5) / 49.25], axis=-1)
    np.testing.assert_allclose(inputs[0], expected.reshape(4, 60), rtol=1e-6)
    assert inputs[1].tolist() == labels[[3, 0, 7, 3]].tolist()


def loaded(data: Batches, batch: Batch, cuts: list[range]) -> NDArray[np.float32]:
    """The features of a batch as its shards load them."""
    parts = []
    for cut in cuts:
        inputs = np.zeros((len(cut), data.features.shape[1]), np.float32), np.zeros(len(cut), np.int64)
        data.load_augmented(batch, cut, Mirror(inputs, inputs))
        parts.append(inputs[0])
    return np.concatenate(parts)


@given(st.lists(st.integers(0, 50), max_size=5), st.sampled_from([60, 200, PIECE]), st.booleans())
def test_the_images_of_a_batch_do_not_depend_on_how_it_is_cut(cuts: list[int], piece: int, scaled: bool) -> None:
    random = np.random.default_rng(0)
    features = random.integers(0, 256, (80, 60), np.uint8)
    spec = JobSpec.model_validate(job(**EVERYTHING))
    scaling = Scaling(np.full(60, 3, np.float32), np.full(60, 0.7, np.float32)) if scaled else None
    data = Batches(features, np.zeros(80, np.int64), scaling, augmentations_of(spec, (5, 6, 2)))
    batch = Batch(data, random.permutation(80)[:50], epoch=1, step=9)
    edges = [0, *sorted(cuts), 50]
    with patch("workers.data.rows.PIECE", piece):
        parts = loaded(data, batch, [range(*pair) for pair in pairwise(edges)])
    assert parts.tobytes() == loaded(data, batch, [range(50)]).tobytes()
    # The same rows are changed differently in another step or epoch. The rows of the file do not change.
    assert not np.array_equal(parts, loaded(data, replace(batch, step=10), [range(50)]))
    assert not np.array_equal(parts, loaded(data, replace(batch, epoch=2), [range(50)]))
    np.testing.assert_array_equal(features, np.random.default_rng(0).integers(0, 256, (80, 60), np.uint8))


def test_images_are_changed_in_training_and_not_in_evaluation(tmp_path: Path) -> None:
    """With a learning rate of almost 0, the validation loss is the same with and without augmentation."""
    dataset = images(tmp_path)
    series = []
    for data in (EVERYTHING["data"], {**EVERYTHING["data"], "augmentation": []}):
        spec = job(**EVERYTHING | {"data": data, "optimizer": {"type": "sgd", "lr": 1e-30}})
        series.append(completed(assignment(spec, dataset, tmp_path)).series)
    assert series[0]["val/loss"] == series[1]["val/loss"]
    assert series[0]["train/loss"] != series[1]["train/loss"]


@pytest.mark.parametrize("step", [1, 4, 6])
def test_a_resumed_job_visits_the_remaining_rows(tmp_path: Path, step: int) -> None:
    dataset = images(tmp_path)
    expected = result(dataset, tmp_path / "one")
    begun = assignment(job(**EVERYTHING), dataset, tmp_path / "two")
    steps = iter(range(1, step + 1))
    train(begun, pending_command=lambda: Command.STOP | Command.CHECKPOINT if next(steps) == step else Command.NONE)
    outcome = train(begun, checkpoint=last_checkpoint(tmp_path / "two"))
    assert outcome.params_sha256 == expected[0]
    assert checkpoint_files(tmp_path / "two") == expected[2]
