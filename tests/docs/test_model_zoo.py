"""The specs in docs/examples/models: published numbers of parameters, and first steps of training."""

from __future__ import annotations

import re
from dataclasses import replace
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from service.cli.spec_file import read_spec
from service.jobs.schemas import JobRequest
from tests.workers.fixtures.helpers import assignment, completed
from workers.data.dataset import DatasetInfo
from workers.data.integrity import digest_of
from workers.job.resolve import resolve

if TYPE_CHECKING:
    from workers.job.resolve import ResolvedJob

DOCS = Path(__file__).parents[2] / "docs"
MODELS = DOCS / "examples" / "models"
# The numbers of Caffe's files, of cifar.torch's networks as other libraries count them, and of the paper's ResNet-20.
PARAMETERS = {
    "lenet": 431_080,
    "cifar10_quick": 145_578,
    "cifar10_full": 89_578,
    "nin": 969_822,
    "vgg": 14_991_946,
    "resnet20": 269_722,
    "alexnet": 60_965_224,
    "googlenet": 13_378_280,
}
STEPS = {"lenet": 10_000, "cifar10_quick": 5000, "cifar10_full": 70_000, "resnet20": 64_000}
STEPS |= {"alexnet": 450_000, "googlenet": 2_400_000}
# The names of splits and their rows, and the classes.
DATASETS: dict[str, tuple[dict[str, int], int]] = {
    "mnist": ({"train": 60_000, "test": 10_000}, 10),
    "cifar10": ({"train": 50_000, "test": 10_000}, 10),
    "imagenet": ({"train": 1_281_167, "validation": 50_000}, 1000),
}
each_model = pytest.mark.parametrize("name", PARAMETERS)


def spec_of(name: str) -> dict[str, Any]:
    return read_spec(MODELS / f"{name}.yaml")


def shape_of(name: str) -> tuple[int, ...]:
    """The shape of the images that the page names."""
    (shape,) = re.findall(
        rf"^\| \[{name}\].*\| ([\dx ]+) \| [\d,]+ \|", (DOCS / "model-zoo.md").read_text(), re.MULTILINE
    )
    return tuple(map(int, shape.split(" x ")))


def resolved(name: str, spec: dict[str, Any]) -> ResolvedJob:
    shape, (splits, classes) = shape_of(name), DATASETS[spec["data"]["dataset"]]
    names = tuple(map(str, range(classes)))
    rows = sum(splits.values())
    dataset = DatasetInfo("/nowhere", "0" * 64, rows, prod(shape), names, "uint8", shape, splits=splits)
    return resolve(JobRequest.model_validate(spec), dataset)


def test_every_spec_is_tested() -> None:
    assert {file.stem for file in MODELS.iterdir()} == set(PARAMETERS)


@each_model
def test_the_number_of_parameters_is_the_published_one(name: str) -> None:
    job = resolved(name, spec_of(name))
    assert job.parameters == PARAMETERS[name]
    assert job.spec.model.inputs == list(shape_of(name))
    assert job.spec.name == name
    for text in ((MODELS / f"{name}.yaml").read_text(), (DOCS / "model-zoo.md").read_text()):
        assert f"{PARAMETERS[name]:,}" in text


@pytest.mark.parametrize("name", STEPS)
def test_the_number_of_steps_is_the_published_one_up_to_an_epoch(name: str) -> None:
    job = resolved(name, spec_of(name))
    assert 0 <= job.total_steps - STEPS[name] < job.steps_per_epoch
    assert f"{STEPS[name]:,} steps" in (MODELS / f"{name}.yaml").read_text()


def test_googlenet_without_its_heads() -> None:
    spec = spec_of("googlenet")
    del spec["model"]["heads"]
    assert resolved("googlenet", spec).parameters == 6_998_552


def images(directory: Path, shape: tuple[int, ...], classes: int, parts: list[str]) -> DatasetInfo:
    """A dataset of random images, a few rows in each part."""
    random = np.random.default_rng(0)
    rows, path = 6 * len(parts), directory / "images.arrow"
    values, labels = random.integers(0, 256, (rows, *shape), np.uint8), random.integers(0, classes, rows)
    codes = np.repeat(np.arange(len(parts), dtype=np.uint8), 6)
    features = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    batch = pa.record_batch({"features": features, "label": pa.array(labels), "split": pa.array(codes)})
    with pa.ipc.new_file(path, batch.schema) as writer:
        writer.write(batch)
    names, splits = tuple(map(str, range(classes))), dict.fromkeys(parts, 6)
    info = DatasetInfo(str(path), "", rows, prod(shape), names, "uint8", shape, splits=splits)
    return replace(info, digest=digest_of(info, [values, labels, codes]))


# GoogLeNet on smaller images than it was made for.
SMALL = {"lenet": (28, 28, 1), "cifar10_quick": (32, 32, 3), "cifar10_full": (32, 32, 3), "nin": (32, 32, 3)}
SMALL |= {"resnet20": (32, 32, 3), "googlenet": (96, 96, 3)}


@pytest.mark.parametrize("name", SMALL)
def test_steps_train_to_the_same_bits_on_any_number_of_workers(name: str, tmp_path: Path) -> None:
    splits, classes = DATASETS[spec_of(name)["data"]["dataset"]]
    dataset = images(tmp_path, SMALL[name], classes, list(splits))
    ends = []
    for workers in (1, 3):
        spec = spec_of(name)
        spec["training"] = {"epochs": 1, "batch_size": 3, "shards": 3}
        spec["resources"] = {"workers": workers}
        ends.append(completed(assignment(spec, dataset, tmp_path / str(workers))))
    one, three = ends
    assert one.params_sha256 == three.params_sha256
    losses = [loss for _, loss in one.series["train/loss"]]
    assert len(losses) == 2
    assert all(map(isfinite, losses))
    # Before the first step, random images are in each class with about the same probability.
    assert 0.8 < losses[0] / np.log(classes) < 3
