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
from tests.workers.fixtures.tasks import ROWS, dataset_of, job_of
from workers.job.resolve import resolve
from workers.job.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

    from core import Task

DRAWN = np.random.default_rng(0).normal(size=(ROWS, 2))
NOISE = (DRAWN - DRAWN.mean(axis=0)) / DRAWN.std(axis=0)


def warnings_of(directory: Path, task: Task, truth: Any = None, **changes: Any) -> dict[str, str]:
    info = dataset_of(task, directory, truth)
    names = {"target_names": ["price", "area"]} if task == "regression" else {}
    job = resolve(JobSpec.model_validate(job_of(task, **changes)), info)
    found = preview(job, {**asdict(info), **names}, Settings(cluster_cpus=8))
    return {warning.field: warning.message for warning in found.warnings if warning.field.startswith("data")}


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
    assert warnings_of(tmp_path, "regression", truth, **{"data.standardize_targets": True}) == {}


def test_targets_that_are_stored_in_coarse_steps(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, "regression", np.add(NOISE, (0, 1e6)))["data.dataset"]
    assert "target 'area'" in found
    assert "in steps of 0.062, 6.2% of the standard deviation 1" in found  # float32 has 24 bits: 2^-4 at 1e6
    assert warnings_of(tmp_path, "regression", NOISE * 1e6 + 1e8) == {}  # 8 of 1e6


@pytest.mark.parametrize("task", ["classification", "binary", "multilabel"])
def test_labels_have_no_such_warnings(tmp_path: Path, task: Task) -> None:
    assert warnings_of(tmp_path, task) == {}


def test_the_positive_class_of_two_is_named(tmp_path: Path) -> None:
    """Label 1 is that of the second class, in ascending order."""
    for task, outputs, expected in (("binary", 1, "1"), ("binary", 2, "1"), ("classification", 3, None)):
        info = dataset_of(task, tmp_path)
        loss = {"loss": {"type": "sigmoid_cross_entropy"}, "model.layers": [{"type": "linear", "units": outputs}]}
        job = resolve(JobSpec.model_validate(job_of(task, **loss)), info)
        assert preview(job, asdict(info), Settings()).positive_class == expected
        rows = {"spec": job.spec.model_dump(mode="json"), "dataset": asdict(info), "total_steps": 5, "task": task}
        counts = dict.fromkeys(("step", "epoch", "priority", "restarts", "attempt"), 0)
        times = {"created_at": datetime.now(UTC), "validation_metrics": [], "latest_metrics": {}}
        stored = Job(id="job_1", name="a", experiment="e", state="queued", **rows, **counts, **times)
        assert job_view(stored, None).positive_class == expected
        note = tags_of(stored, {})[NOTE]
        assert ("positive class: 1" in note) == (expected is not None)
