from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core import registered, to_spec
from tests.workers.fixtures.helpers import instances, job
from workers.data.dataset import DatasetInfo
from workers.job.checks.model import Limits
from workers.job.checks.problems import SpecError
from workers.job.once import Once
from workers.job.resolve import ResolvedJob, resolve
from workers.job.spec import CheckpointsSpec, JobSpec

ROWS = 333
DATASET = DatasetInfo("/nowhere", "0" * 64, rows=ROWS, features=20, classes=("a", "b", "c"))
SPLITS = replace(DATASET, splits={"test": 100, "train": 200, "unused": 33})


def resolved(**changes: Any) -> ResolvedJob:
    return resolve(JobSpec.model_validate(job(**changes)), DATASET)


def linear(*widths: int) -> list[dict[str, Any]]:
    return [{"type": "linear", "units": width} for width in widths]


PROBLEMS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "width of a row": ({"model.inputs": 21}, "model.inputs", ("21", "20")),
    "number of classes": ({"model.layers": linear(8, 4)}, "model.layers.1", ("4", "3 classes")),
    "too many parameters": (
        {"model.layers": linear(100_000, 1000, 3)},
        "model.layers",
        (f"{Limits.parameters:,}", f"{20 * 100_000 + 100_000 + 100_000 * 1000 + 1000 + 1000 * 3 + 3:,}"),
    ),
    "a batch larger than the training rows": ({"training.batch_size": 267}, "training.batch_size", ("267", "266 rows")),
    "more shards than rows": ({"training.shards": 51}, "training.shards", ("51", "50")),
    "fewer numbers than features": (
        {"data.scale": {"subtract": [1, 2, 3], "divide": 2}},
        "data.scale.subtract",
        ("3 numbers", "20 (features)"),
    ),
    "batch norm on shards of one row": (
        {"model.layers": [*linear(8), {"type": "batch_norm"}, *linear(3)], "training.batch_size": 7},
        "training.batch_size",
        ("7 rows", "4 shards", "one value", "1_batch_norm", "8"),
    ),
    "validation without rows": ({"data.validation": 0.001}, "data.validation", ("0.001", "333 rows")),
    "training without rows": ({"data.validation": 0.999}, "data.validation", ("0.999", "333 rows", "332")),
    "early stopping without validation": (
        {"data.validation": 0.0, "training.early_stopping": {"metric": "val/hinge"}},
        "training.early_stopping",
        ("val/hinge", "data.validation"),
    ),
    "early stopping without a validation value": (
        {"data": {"dataset": "blobs", "split": {"train": ["train"]}}, "training.early_stopping": {}},
        "training.early_stopping",
        ("val/loss", "data.split.validation"),
    ),
    "the best checkpoint without validation": (
        {"data.validation": 0.0, "checkpoints.best": "val/accuracy"},
        "checkpoints.best",
        ("val/accuracy", "data.validation"),
    ),
    "a share of each class of no rows": (
        {"data.validation": 0.0, "data.stratify": True},
        "data.stratify",
        ("data.validation",),
    ),
    "fewer validation rows than classes": (
        {"data.validation": 0.006, "data.stratify": True},
        "data.stratify",
        ("2 validation rows", "3 classes"),
    ),
    "fewer training rows than classes": (
        {"data.validation": 0.994, "data.stratify": True, "training.batch_size": 2},
        "data.stratify",
        ("2 training rows", "3 classes"),
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_names_its_field_and_the_numbers(case: str) -> None:
    changes, field, numbers = PROBLEMS[case]
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(job(**changes)), SPLITS)
    (problem,) = caught.value.problems
    assert problem.field == field
    for number in numbers:
        assert number in problem.message
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("validation", "sizes"), [(["test"], (200, 100)), (["test", "unused", "test"], (200, 133)), ([], (200, 0))]
)
def test_the_rows_of_a_split_by_a_column_are_those_of_its_values(validation: list[str], sizes: tuple[int, int]) -> None:
    changes = job(data={"dataset": "blobs", "split": {"train": ["train"], "validation": validation}})
    found = resolve(JobSpec.model_validate(changes), SPLITS)
    assert (found.train_rows, found.validation_rows, found.steps_per_epoch) == (*sizes, 4)
    assert (found.spec.data.validation, found.validation_field) == (0.0, "data.split.validation")
    assert resolve(JobSpec.model_validate(found.spec.model_dump(mode="json")), SPLITS).spec == found.spec


@pytest.mark.parametrize(
    ("dataset", "split", "fields", "words"),
    [
        (DATASET, {"train": ["train"]}, ["data.split"], ("'blobs'", "has none", "split_column")),
        (
            SPLITS,
            {"train": ["training", "train"], "validation": ["Test"]},
            ["data.split.train.0", "data.split.validation.0"],
            ("is 'training'", "'test', 'train', 'unused'", "one of them"),
        ),
        (SPLITS, {"train": ["unused"]}, ["training.batch_size"], ("only 33 rows", "at most 33")),
    ],
)
def test_a_split_that_the_dataset_does_not_have(
    dataset: DatasetInfo, split: dict[str, Any], fields: list[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(job(data={"dataset": "blobs", "split": split})), dataset)
    assert [problem.field for problem in caught.value.problems] == fields
    for word in words:
        assert word in caught.value.problems[0].message


def test_missing_parameters_are_reported_with_the_number_of_scores() -> None:
    with pytest.raises(SpecError) as caught:
        resolved(**{"model.layers": [{"type": "relu"}]})
    messages = {problem.field: problem.message for problem in caught.value.problems}
    assert set(messages) == {"model.layers", "model.layers.0"}
    assert "no parameters" in messages["model.layers"]


def test_every_problem_is_found_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        resolved(
            **{
                "model.inputs": 3,
                "model.layers": linear(2),
                "training.batch_size": 300,
                "training.shards": 301,
                "data.validation": 0.001,
            }
        )
    fields = [problem.field for problem in caught.value.problems]
    assert sorted(fields) == [
        "data.validation",
        "model.inputs",
        "model.layers.0",
        "training.shards",
    ]


@pytest.mark.parametrize(("batch_size", "shards"), [(50, 4), (266, 4), (4, 4), (3, 2), (2, 2), (1, 1)])
@given(workers=st.integers(1, 64), cpus=st.integers(1, 8), gpus=st.integers(0, 1))
def test_the_shards_by_default_do_not_depend_on_resources(
    batch_size: int, shards: int, workers: int, cpus: int, gpus: int
) -> None:
    resources = {"workers": workers, "cpus_per_worker": cpus, "gpus_per_worker": gpus}
    assert resolved(**{"resources": resources, "training.batch_size": batch_size}).spec.training.shards == shards


def test_given_values_are_kept_and_missing_values_are_filled_in() -> None:
    spec = JobSpec.model_validate(job(**{"training.shards": 7}))
    result = resolve(spec, DATASET)
    assert result.spec.training.shards == 7
    assert result.spec.model.inputs == 20
    assert spec.model.inputs is None
    assert resolve(result.spec, DATASET) == result
    assert JobSpec.model_validate_json(result.spec.model_dump_json()) == result.spec


CONVOLUTION: list[dict[str, Any]] = [
    {"type": "conv2d", "filters": 2, "kernel": 3},
    {"type": "flatten"},
    {"type": "linear", "units": 3},
]


@pytest.mark.parametrize(
    ("layers", "inputs", "expected"),
    [
        (CONVOLUTION, None, [5, 4, 1]),
        (CONVOLUTION, [4, 5, 1], [4, 5, 1]),
        (linear(3), None, 20),
        ([{"type": "flatten"}, *linear(3)], None, 20),
        ([{"type": "flatten"}, *linear(3)], [2, 10], [2, 10]),
        ([{"type": "reshape", "shape": [4, 5, 1]}, *CONVOLUTION], None, 20),
        ([{"type": "flatten"}, {**CONVOLUTION[0], "inputs": ["features"]}, *CONVOLUTION[1:]], None, None),
    ],
)
def test_rows_are_images_for_layers_that_read_nothing_else(layers: Any, inputs: Any, expected: Any) -> None:
    pictures = replace(DATASET, shape=(5, 4, 1))
    spec = JobSpec.model_validate(job(**{"model.layers": layers, "model.inputs": inputs}))
    if expected is None:  # the error is that of a model of images
        with pytest.raises(SpecError, match="no layer reads"):
            resolve(spec, pictures)
        return
    result = resolve(spec, pictures)
    assert result.spec.model.inputs == expected
    assert result.spec.model.graph().shapes()["features"] == (1, *np.atleast_1d(expected))
    assert resolve(result.spec, pictures) == result
    assert JobSpec.model_validate_json(result.spec.model_dump_json()) == result.spec


def test_one_model_on_several_datasets_is_resolved_for_each() -> None:
    once, spec = Once(), JobSpec.model_validate(job(**{"model.layers": [{"type": "flatten"}, *linear(3)]}))
    wide = replace(DATASET, features=21)
    for dataset in (DATASET, wide, DATASET):
        assert resolve(spec, dataset, Limits(worker_bytes=10**9), once) == resolve(spec, dataset)
    pictures = JobSpec.model_validate(job(**{"model.layers": CONVOLUTION}))
    for shape in ((5, 4, 1), (4, 5, 1)):
        assert resolve(pictures, replace(DATASET, shape=shape), once=once).spec.model.inputs == list(shape)


@pytest.mark.parametrize(
    ("changes", "shape", "field", "words"),
    [
        ({"model.inputs": [5, 5, 1]}, None, "model.inputs", ("[5, 5, 1], which is 25", "must be 20, or left out")),
        ({"model.inputs": [5, 5, 1]}, (5, 4, 1), "model.inputs", ("must be 20 or [5, 4, 1], or left out",)),
        ({}, None, "model.layers.0", ("0_conv2d", "shape of a row, such as [4, 5, 1]")),
        (
            {"model.inputs": 20},
            (5, 4, 1),
            "model.layers.0",
            ("0_conv2d", "model.inputs", "of a row, [5, 4, 1]"),
        ),
        ({"model.layers.0.kernel": 5}, (5, 4, 1), "model.layers.0", ("0_conv2d", "windows of 5 in width", "has 4")),
        (
            {"model.layers.0.groups": 2},
            (5, 4, 1),
            "model.layers.0",
            ("0_conv2d", "groups must divide the number of channels, 1"),
        ),
    ],
)
def test_images_that_do_not_fit(
    changes: dict[str, Any], shape: tuple[int, ...] | None, field: str, words: tuple[str, ...]
) -> None:
    document = job(**{"model.layers": deepcopy(CONVOLUTION)})
    for path, value in changes.items():
        *parents, last = path.split(".")
        target: Any = document
        for parent in parents:
            target = target[int(parent) if isinstance(target, list) else parent]
        target[last] = value
    with pytest.raises(SpecError) as caught:
        resolve(JobSpec.model_validate(document), replace(DATASET, shape=shape))
    problem = next(problem for problem in caught.value.problems if problem.field == field)
    for word in words:
        assert word in problem.message


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 30),
        ({"keep": 7, "best": "val/accuracy"}, 30),
        ({"every_steps": 10}, None),
        ({"every_epochs": 1}, None),
        ({"every_seconds": 2.5}, 2.5),
        ({"every_seconds": 2.5, "every_steps": 10}, 2.5),
    ],
    ids=str,
)
def test_checkpoints_are_written_every_30_seconds_by_default(given: dict[str, Any], seconds: float | None) -> None:
    expected = CheckpointsSpec(**given).model_dump() | {"every_seconds": seconds}
    assert resolved(checkpoints=given).spec.checkpoints.model_dump() == expected


def test_the_sizes_of_a_resolved_job() -> None:
    result = resolved()
    assert (result.train_rows, result.validation_rows) == (266, 67)
    assert result.steps_per_epoch == 6, "the last batch has 16 rows"
    assert result.total_steps == 18
    assert result.parameters == 20 * 32 + 32 + 32 * 3 + 3


def test_no_validation() -> None:
    result = resolved(**{"data.validation": 0.0})
    assert (result.train_rows, result.validation_rows) == (ROWS, 0)


@given(st.data())
def test_every_chain_of_layers_resolves_or_names_a_field(data: st.DataObject) -> None:
    layers = st.sampled_from(list(registered("layer").values())).flatmap(instances)
    chain = data.draw(st.lists(layers, min_size=1, max_size=4))
    spec = JobSpec.model_validate(job(**{"model.layers": [to_spec(layer) for layer in chain]}))
    fields = []
    try:
        resolve(spec, DATASET)
    except SpecError as error:
        fields = [problem.field for problem in error.problems]
    assert all(field.startswith("model.layers") for field in fields)


@pytest.mark.parametrize("count", [2, 20])
def test_images_may_be_scaled_by_channel(count: int) -> None:
    images = replace(DATASET, shape=(2, 5, 2), dtype="uint8")
    scale = {"subtract": [0] * count, "divide": 255}
    assert resolve(JobSpec.model_validate(job(**{"data.scale": scale})), images).spec.data.scale is not None
    with pytest.raises(SpecError, match=r"has 10 numbers: must be one number, or 20 \(features\) or 2 \(channels\)"):
        resolve(JobSpec.model_validate(job(**{"data.scale": {"subtract": [0] * 10}})), images)


def test_a_classifier_needs_data_with_classes() -> None:
    with pytest.raises(SpecError, match="the dataset has 2 target columns and no classes: must be one of") as caught:
        resolve(JobSpec.model_validate(job()), replace(DATASET, classes=(), targets=2))
    assert [problem.field for problem in caught.value.problems] == ["loss"]


def test_augmentation_needs_images_that_are_large_enough() -> None:
    spec = JobSpec.model_validate(job(**{"data.augmentation": [{"type": "flip"}, {"type": "crop", "padding": 3}]}))
    with pytest.raises(SpecError, match="no height and width"):
        resolve(spec, DATASET)
    resolve(spec, replace(DATASET, shape=(4, 5, 1)))
    with pytest.raises(SpecError, match="3 pixels beyond images of 2 x 5: must be at most 2") as caught:
        resolve(spec, replace(DATASET, shape=(2, 5, 2)))
    assert [problem.field for problem in caught.value.problems] == ["data.augmentation.1"]


FOLDS = replace(DATASET, splits={"0": 100, "1": 200, "true": 33})


def with_split(**split: Any) -> JobSpec:
    return JobSpec.model_validate(job(data={"dataset": "blobs", "split": split}))


def test_folds_are_numbers_or_text() -> None:
    numbers, text = with_split(train=[0, True], validation=[1]), with_split(train=["0", "true"], validation=["1"])
    assert numbers == text
    assert numbers.model_dump()["data"]["split"] == {"train": ["0", "true"], "validation": ["1"]}
    assert resolve(numbers, FOLDS).train_rows == 133
    with pytest.raises(SpecError) as caught:
        resolve(with_split(train=[0, 7, 8, 9], validation=[6, 5]), FOLDS)
    assert [problem.field for problem in caught.value.problems] == ["data.split.train.1", "data.split.validation.0"]
    with pytest.raises(ValidationError, match="in both train and validation"):
        with_split(train=[1], validation=["1"])
