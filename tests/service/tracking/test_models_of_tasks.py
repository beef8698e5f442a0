"""The saved model of each task, as another process loads it with MLflow, against the metrics of the job."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn import metrics

from service.datasets.outputs import output_names, target_names
from service.tracking.artifacts.evaluation import evaluation_json
from service.tracking.model.mlflow_model import model_files
from tests.service.fixtures.models import LOAD, python
from tests.workers.fixtures.helpers import assignment, completed, images, job, last_checkpoint
from tests.workers.fixtures.tasks import COLUMNS, OUTPUTS, dataset_of, job_of
from workers.data.dataset import DatasetInfo, open_dataset
from workers.job.data import split_rows
from workers.job.spec import JobSpec
from workers.record.events import Evaluated

if TYPE_CHECKING:
    from core import Task
    from workers.training.assignment import Assignment

IDENTITY = {"run_id": "0" * 32, "model_id": "m-" + "0" * 32, "utc_time_created": "2026-01-01 00:00:00.000000"}


def trained(task: Task, directory: Path, **changes: Any) -> tuple[Assignment, DatasetInfo, Evaluated]:
    """A job that has ended, its dataset, and the evaluation of its kept parameters."""
    dataset = dataset_of(task, directory)
    given = assignment(job_of(task, **{"training.epochs": 6, **changes}), dataset, directory / "job")
    (evaluated,) = (event for event in completed(given).events if isinstance(event, Evaluated))
    return given, dataset, evaluated


def write_model(directory: Path, task: Task, given: Assignment, dataset: DatasetInfo) -> Path:
    """Write the model's files; returns their directory."""
    document = asdict(dataset) | {"target_names": [] if dataset.classes else list(COLUMNS[task])}
    checkpoint = last_checkpoint(given.directory)
    files = model_files(checkpoint, given.job, given.computation_sha256, dataset=document, identity=IDENTITY)
    for path, content in files.items():
        place = directory / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.read_bytes() if isinstance(content, Path) else content)
    return directory / "model"


def expected_metrics(task: Task, answer: Any, truth: Any, classes: tuple[str, ...]) -> dict[str, float]:
    """Metrics by scikit-learn, from what the model returns."""
    match task:
        case "regression":
            predicted = answer["predictions"].astype(np.float64)
            return {
                "val/r2": metrics.r2_score(truth, predicted),
                "val/mean_squared_error": metrics.mean_squared_error(truth, predicted),
                "val/mean_absolute_error": metrics.mean_absolute_error(truth, predicted),
            }
        case "multilabel":
            return {
                "val/f1": metrics.f1_score(truth, answer["labels"], average="macro"),
                "val/subset_accuracy": metrics.accuracy_score(truth, answer["labels"]),
                "val/roc_auc": metrics.roc_auc_score(truth, answer["scores"]),
            }
    predicted = np.array([classes.index(name) for name in answer["label"]])
    found = {"val/accuracy": metrics.accuracy_score(truth, predicted)}
    if task == "binary":
        found["val/roc_auc"] = metrics.roc_auc_score(truth, answer["score"])
        found["val/average_precision"] = metrics.average_precision_score(truth, answer["score"])
    else:
        found["val/balanced_accuracy"] = metrics.balanced_accuracy_score(truth, predicted)
    return found


SIGNATURES: dict[Task, dict[str, tuple[str, list[int]]]] = {
    "classification": {"label": ("str", [-1]), "scores": ("float32", [-1, 3])},
    "binary": {"label": ("str", [-1]), "score": ("float32", [-1])},
    "multilabel": {"labels": ("int64", [-1, 3]), "scores": ("float32", [-1, 3])},
    "regression": {"predictions": ("float32", [-1, 2])},
}


@pytest.mark.parametrize("task", SIGNATURES)
def test_scikit_learns_metrics_of_the_loaded_model_are_those_of_the_job(tmp_path: Path, task: Task) -> None:
    given, dataset, evaluated = trained(task, tmp_path)
    model = write_model(tmp_path, task, given, dataset)
    features, truth = open_dataset(dataset)
    _, rows = split_rows(JobSpec.model_validate(given.spec), dataset, truth)
    np.save(tmp_path / "rows.npy", features[rows])
    python("-c", LOAD, model, tmp_path / "rows.npy", tmp_path / "answer.npz", cwd=tmp_path)
    answer = np.load(tmp_path / "answer.npz")
    assert answer["signed"]
    for name, value in expected_metrics(task, answer, truth[rows], dataset.classes).items():
        assert evaluated.metrics[name] == pytest.approx(value, rel=1e-6), name

    described = json.loads((model / "data" / "model.json").read_text())
    assert (described["task"], described["step"]) == (task, evaluated.step)
    assert described["targets"] == ([] if dataset.classes else list(COLUMNS[task]))
    outputs = json.loads(_signature(model)["outputs"])
    found = {each["name"]: (each["tensor-spec"]["dtype"], each["tensor-spec"]["shape"]) for each in outputs}
    assert found == SIGNATURES[task]
    for name, (dtype, shape) in found.items():
        assert answer[name].shape == (len(rows), *shape[1:])
        assert dtype == "str" or answer[name].dtype == dtype


def _signature(model: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    signature: dict[str, Any] = yaml.safe_load((model / "MLmodel").read_text())["signature"]
    return signature


def test_a_model_of_images_with_blocks_and_a_head_is_loaded_with_their_shape(tmp_path: Path) -> None:
    dataset = images(tmp_path)
    scores = [{"type": "flatten"}, {"type": "linear", "units": 3}]
    block = {"type": "repeat", "times": 2, "layers": [{"type": "conv2d", "filters": 4, "kernel": 3, "padding": 1}]}
    changes = {"model.layers": [block, *scores], "model.heads": [{"reads": "0_repeat", "layers": scores}]}
    given = assignment(job(**changes, **{"training.epochs": 2}), dataset, tmp_path / "job")
    evaluated = completed(given).evaluated
    model = write_model(tmp_path, "classification", given, dataset)
    assert json.loads((model / "data" / "model.json").read_text())["inputs"] == [5, 6, 2]
    features, truth = open_dataset(dataset)
    _, rows = split_rows(JobSpec.model_validate(given.spec), dataset, truth)
    np.save(tmp_path / "rows.npy", features[rows].reshape(-1, 5, 6, 2))
    python("-c", LOAD, model, tmp_path / "rows.npy", tmp_path / "answer.npz", cwd=tmp_path)
    answer = np.load(tmp_path / "answer.npz")
    found = expected_metrics("classification", answer, truth[rows], dataset.classes)
    assert {name: evaluated.metrics[name] for name in found} == pytest.approx(found, rel=1e-6)
    assert answer["example"].shape == (1, 5, 6, 2)


@pytest.mark.parametrize("task", SIGNATURES)
def test_the_evaluation_as_json(tmp_path: Path, task: Task) -> None:
    _, dataset, evaluated = trained(task, tmp_path, **{"training.epochs": 1})
    kept = {"step": evaluated.step, "epoch": evaluated.epoch, "metrics": dict(evaluated.metrics)}
    snapshot = {"classes": list(dataset.classes), "targets": dataset.targets, "target_names": list(COLUMNS[task])}
    document = json.loads(evaluation_json(kept, dict(evaluated.details), snapshot))
    assert (document["step"], document["metrics"]) == (evaluated.step, dict(evaluated.metrics))
    names = document["classes" if dataset.classes else "targets"]
    assert names == list(dataset.classes or COLUMNS[task])
    if task == "regression":
        assert "confusion" not in document
        return
    counts = np.array(document["confusion"])
    labels = max(OUTPUTS[task], 2)
    assert counts.shape == ((labels, 2, 2) if task == "multilabel" else (labels, labels))
    support = counts[:, 1].sum(axis=1) if task == "multilabel" else counts.sum(axis=1)
    assert document["per_label"]["support"] == support.tolist()
    assert len(document["per_label"]["f1"]) == len(names)


def test_names_of_targets() -> None:
    columns = [{"name": "price", "width": 1}, {"name": "position", "width": 2}]
    assert target_names(columns) == ["price", "position 1", "position 2"]
    assert output_names({"classes": [], "targets": 2}) == ("target 1", "target 2")
    assert output_names({"classes": ["a", "b"]}) == ("a", "b")
