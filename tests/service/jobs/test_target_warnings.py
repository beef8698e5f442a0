"""Warnings about the targets of a regression before it runs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.jobs.preview import preview
from service.jobs.schemas import job_view
from service.settings import Settings
from service.store.models import Job
from service.tracking.description import NOTE, tags_of
from tests.workers.fixtures.tasks import COLUMNS, ROWS, dataset_of, job_of
from workers.job.data import split_rows
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

    from core import Task

DRAWN = np.random.default_rng(0).normal(size=(ROWS, 2))
NOISE = (DRAWN - DRAWN.mean(axis=0)) / DRAWN.std(axis=0)


def warnings_of(directory: Path, task: Task, truth: Any = None, **changes: Any) -> dict[str, str]:
    return dict(found_warnings(directory, task, truth, changes))


def messages_of(directory: Path, task: Task, truth: Any) -> list[str]:
    return [message for _, message in found_warnings(directory, task, truth, {})]


def found_warnings(directory: Path, task: Task, truth: Any, changes: dict[str, Any]) -> list[tuple[str, str]]:
    info = dataset_of(task, directory, truth)
    names = {"target_names": list(COLUMNS[task])} if task in {"regression", "multilabel"} else {}
    job = resolve(JobSpec.model_validate(job_of(task, **changes)), info)
    found = preview(job, {**asdict(info), **names}, Settings(cluster_cpus=8, data_dir=directory))
    return [(warning.field, warning.message) for warning in found.warnings if warning.field.startswith("data")]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (NOISE, None),
        (NOISE * (3, 0.3) + (5, 9), None),
        (np.hstack([NOISE[:, :1] * 0 + 4, NOISE[:, 1:]]), None),  # constant
        (NOISE * (1, 80_000) + (0, 2e5), "target 'area' has the mean 2e+05 and the standard deviation 8e+04:"),
        (NOISE * (1e-5, 1), "target 'price' has the mean"),
        (np.add(NOISE, (100, 0)), "target 'price' has the mean 100"),
        (NOISE * 0 + 1000, "(and 1 more like it)"),
    ],
)
def test_targets_on_another_scale(tmp_path: Path, truth: Any, message: str | None) -> None:
    raw = warnings_of(tmp_path, "regression", truth, **{"data.standardize_targets": False})
    assert {*raw} == (set() if message is None else {"data.standardize_targets"})
    assert (message or "") in raw.get("data.standardize_targets", "")
    scaled = warnings_of(tmp_path, "regression", truth, **{"data.standardize_targets": True})
    assert {*scaled} == ({"data.standardize_targets"} if (np.ptp(truth, axis=0) == 0).any() else set())
    assert not any("has the mean" in message for message in scaled.values())


def test_targets_that_are_stored_in_coarse_steps(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, "regression", np.add(NOISE, (0, 1e6)))["data.dataset"]
    assert "target 'area'" in found
    assert "in steps of 0.062, 6.2% of the standard deviation 1" in found  # float32 has 24 bits: 2^-4 at 1e6
    assert warnings_of(tmp_path, "regression", NOISE * 1e6 + 1e8) == {}  # 8 of 1e6


def test_a_target_that_is_constant_in_the_training_rows(tmp_path: Path) -> None:
    truth = np.hstack([NOISE[:, :1] * 0 + 4, NOISE[:, 1:]])
    found = warnings_of(tmp_path, "regression", truth, **{"data.standardize_targets": True})
    assert found == {
        "data.standardize_targets": "is true, and target 'price' is 4 in every training row: it has no standard "
        "deviation to be divided by, and R² of a constant says nothing. Leave the column out of the targets"
    }
    # A validation row with another value does not make it vary.
    job = resolve(JobSpec.model_validate(job_of("regression")), dataset_of("regression", tmp_path))
    _, validation = split_rows(job.spec, dataset_of("regression", tmp_path), NOISE)
    truth[np.arange(ROWS)[validation][0], 0] = 5
    assert warnings_of(tmp_path, "regression", truth, **{"data.standardize_targets": True}) == found


def labels_of(*counts: int) -> Any:
    """Labels with so many rows of each class, all equally mixed into the rows."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))[:, None]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((ROWS // 2, ROWS - ROWS // 2), None),
        ((ROWS - 20, 20), None),  # 15 %
        ((ROWS - 10, 10), "class '1' has 8 of 106 training rows (7.5%)"),
        ((10, ROWS - 10), "class '0' has 8 of 106 training rows (7.5%)"),
    ],
)
def test_a_rare_class_of_two(tmp_path: Path, counts: tuple[int, int], message: str | None) -> None:
    changes = {"data.stratify": True}
    found = warnings_of(tmp_path, "binary", labels_of(*counts), **changes)
    assert {*found} == (set() if message is None else {"data.dataset"})
    text = found.get("data.dataset", "")
    assert (message or "") in text
    if message is not None:
        other = "1" if counts[0] == 10 else "0"
        assert f"a model that always answers {other!r} has an accuracy of 0.925" in text  # 98 of 106
        assert "'1' is the positive class" in text
        assert "--class 1 --class 0" in text
        assert "val/balanced_accuracy" in text
        assert "val/average_precision" in text
        assert "--metric" in text
    two = {"loss": {"type": "softmax"}, "model.layers": [{"type": "linear", "units": 2}]}
    assert warnings_of(tmp_path, "binary", labels_of(*counts), **changes, **two) == found


def test_a_class_without_training_rows(tmp_path: Path) -> None:
    labels = labels_of(ROWS - 1, 0, 1)
    labels[labels == 2] = 0
    job = resolve(JobSpec.model_validate(job_of("classification")), dataset_of("classification", tmp_path))
    _, validation = split_rows(job.spec, dataset_of("classification", tmp_path), labels[:, 0])
    here = np.arange(ROWS)[validation]
    labels[here[0]], labels[here[1]] = 1, 2
    found = warnings_of(tmp_path, "classification", labels)
    assert found == {
        "data.dataset": "has no training row of class '1' (and 1 more like it): the model cannot learn it. "
        "data.stratify keeps rows of each class for training"
    }


def several_labels(*counts: int) -> Any:
    """Targets of zeros and ones: each label is 1 in so many rows."""
    random = np.random.default_rng(2)
    return np.stack([random.permutation(np.arange(ROWS) < count) for count in counts], axis=1).astype(np.float64)


def test_labels_without_a_positive_row(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, "multilabel", several_labels(60, 60, 60)) == {}
    found = messages_of(tmp_path, "multilabel", several_labels(60, 0, 60))
    assert found == [
        "has label 'b' in no training row: the model cannot learn it",
        "has label 'b' in no validation row: val/f1 counts it as 0, and val/roc_auc and val/average_precision "
        "leave it out",
    ]
    (everywhere,) = messages_of(tmp_path, "multilabel", several_labels(60, ROWS, 60))
    assert everywhere == "has label 'b' in every training row: the model cannot learn what it depends on"


def test_of_many_labels_the_first_ones_are_named(tmp_path: Path) -> None:
    found = messages_of(tmp_path, "multilabel", several_labels(0, 0, 0))
    assert found[1].startswith("has labels 'a', 'b', 'c' in no validation row: val/f1 counts them as 0")


@pytest.mark.parametrize("task", ["classification", "binary", "multilabel"])
def test_labels_have_no_such_warnings(tmp_path: Path, task: Task) -> None:
    assert warnings_of(tmp_path, task) == {}


def test_the_positive_class_of_two_is_named(tmp_path: Path) -> None:
    """Label 1 is that of the second class, in ascending order."""
    for task, outputs, expected in (("binary", 1, "1"), ("binary", 2, "1"), ("classification", 3, None)):
        info = dataset_of(task, tmp_path)
        loss = {"loss": {"type": "sigmoid_cross_entropy"}, "model.layers": [{"type": "linear", "units": outputs}]}
        job = resolve(JobSpec.model_validate(job_of(task, **loss)), info)
        assert preview(job, asdict(info), Settings(data_dir=tmp_path)).positive_class == expected
        rows = {"spec": job.spec.model_dump(mode="json"), "dataset": asdict(info), "total_steps": 5, "task": task}
        counts = dict.fromkeys(("step", "epoch", "priority", "restarts", "attempt"), 0)
        times = {"created_at": datetime.now(UTC), "validation_metrics": [], "latest_metrics": {}}
        stored = Job(id="job_1", name="a", experiment="e", state="queued", **rows, **counts, **times)
        assert job_view(stored, None).positive_class == expected
        note = tags_of(stored, {})[NOTE]
        assert ("positive class: 1" in note) == (expected is not None)
