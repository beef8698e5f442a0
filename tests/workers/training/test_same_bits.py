"""The bits of a result do not depend on where shards are computed, and what they depend on changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from core import registered
from tests.workers.fixtures.helpers import EVERYTHING, assignment, checkpoint_files, completed, job

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

pytestmark = pytest.mark.usefixtures("every_thread")

PLACES = [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (2, 2)]

# The first model has several segments of parameters, the second has fewer segments than workers.
MODELS = {
    "wide": [{"type": "linear", "units": 200}, {"type": "relu"}, {"type": "linear", "units": 3}],
    "small": [{"type": "linear", "units": 3}],
}


@pytest.mark.parametrize("model", MODELS)
# The last batch of the 266 rows has 16, 2 and 16 rows.
@pytest.mark.parametrize(("shards", "batch_size"), [(4, 50), (7, 44), (16, 50)], ids=str)
def test_no_bit_depends_on_where_shards_are_computed(
    tmp_path: Path, dataset: DatasetInfo, shards: int, batch_size: int, model: str
) -> None:
    results = {}
    for workers, cpus in PLACES:
        directory = tmp_path / f"{workers}-{cpus}"
        spec = job(
            **{
                "model.layers": MODELS[model],
                "training.shards": shards,
                "training.batch_size": batch_size,
                "resources": {"workers": workers, "cpus_per_worker": cpus},
            }
        )
        outcome = completed(assignment(spec, dataset, directory))
        assert outcome.reporters == {0}
        results[workers, cpus] = (outcome.params_sha256, outcome.series, checkpoint_files(directory))
    for place, result in results.items():
        assert result == results[1, 1], f"(workers, cpus) {place} differs from (1, 1)"


@pytest.mark.parametrize("optimizer", registered("optimizer"))
def test_no_bit_depends_on_workers_with_all_features(tmp_path: Path, dataset: DatasetInfo, optimizer: str) -> None:
    """Random numbers, running statistics, a norm over all slices, the state of each optimizer."""
    results = []
    for workers, cpus in [(1, 1), (3, 1), (2, 2)]:
        places = {"workers": workers, "cpus_per_worker": cpus}
        changes = EVERYTHING | {"optimizer": {"type": optimizer, "lr": 0.01}, "resources": places}
        outcome = completed(assignment(job(**changes), dataset, tmp_path))
        results.append((outcome.params_sha256, outcome.series, checkpoint_files(tmp_path)))
    assert results[1] == results[0]
    assert results[2] == results[0]


# All layers of images and sequences.
IMAGES = [
    {"type": "linear", "units": 48},
    {"type": "reshape", "shape": [4, 4, 3]},
    {"type": "conv2d", "filters": 4, "kernel": 3, "padding": "same"},
    {"type": "lrn", "size": 3, "alpha": 0.5},
    {"type": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1},
    {"type": "conv2d_transpose", "filters": 4, "kernel": 4, "stride": 2, "padding": "same"},
    {"type": "batch_norm"},
    {"type": "prelu"},
    {"type": "upsample", "factor": 2, "mode": "linear"},
    {"type": "crop", "margin": 1},
    {"type": "zero_pad", "padding": 1},
    {"type": "channel_dropout", "rate": 0.25},
    {"type": "average_pool2d", "kernel": 2},
    {"type": "reshape", "shape": [16, 4]},
    {"type": "conv1d", "filters": 4, "kernel": 3},
    {"type": "max_pool1d", "kernel": 2},
    {"type": "average_pool1d", "kernel": 2},
    {"type": "flatten"},
    {"type": "linear", "units": 3},
]


def test_no_bit_depends_on_workers_with_layers_of_images(tmp_path: Path, dataset: DatasetInfo) -> None:
    of_images = {
        name
        for name, cls in registered("layer").items()
        if cls.__module__.startswith("core.layers.convolution.") or getattr(cls, "images", False)
    }
    assert of_images <= {layer["type"] for layer in IMAGES}
    results = []
    for workers, cpus in [(1, 1), (3, 1), (2, 2)]:
        places = {"workers": workers, "cpus_per_worker": cpus}
        spec = job(**{"model.layers": IMAGES, "training.batch_size": 44, "training.epochs": 1, "resources": places})
        outcome = completed(assignment(spec, dataset, tmp_path))
        results.append((outcome.params_sha256, outcome.series, checkpoint_files(tmp_path)))
    assert results[1] == results[0]
    assert results[2] == results[0]


@pytest.mark.parametrize(
    "change",
    [
        {"regularization": {"l2": 1e-3}},
        {"training.clipping": None},
        {"training.clipping": {"type": "value", "limit": 0.01}},
        {"training.seed": 6},
        {"model.layers": [layer for layer in EVERYTHING["model.layers"] if layer["type"] != "dropout"]},
        {"model.layers": [layer for layer in EVERYTHING["model.layers"] if layer["type"] != "batch_norm"]},
    ],
    ids=str,
)
def test_each_of_these_features_changes_the_result(
    tmp_path: Path, dataset: DatasetInfo, change: dict[str, Any]
) -> None:
    """Shows that the test above can fail."""
    whole, other = (
        completed(assignment(job(**EVERYTHING | changes), dataset, tmp_path)).params_sha256 for changes in ({}, change)
    )
    assert whole != other


def test_other_shards_and_seeds_give_other_bits(tmp_path: Path, dataset: DatasetInfo) -> None:
    """Shows that the tests above can fail: the order of additions changes bits."""
    digests = {
        completed(assignment(job(**{f"training.{name}": value}), dataset, tmp_path)).params_sha256
        for name, value in (("shards", 4), ("shards", 7), ("shards", 1), ("seed", 6))
    }
    assert len(digests) == 4


def test_a_run_can_be_repeated(tmp_path: Path, dataset: DatasetInfo) -> None:
    given = assignment(job(**{"resources.workers": 2}), dataset, tmp_path)
    first, second = completed(given), completed(given)
    assert (first.params_sha256, first.series) == (second.params_sha256, second.series)
