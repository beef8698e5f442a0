from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import Linear, build_classifier
from service.analysis import predictions
from service.analysis.predictions import Predictions, predict
from service.analysis.trained_model import load_trained_model
from tests.workers.fixtures.helpers import EVERYTHING, assignment, blobs, completed, job, last_checkpoint, points_of
from workers.data.dataset import open_dataset
from workers.data.splitting import split
from workers.job.spec import ModelSpec
from workers.record.checkpoint import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from workers.training.assignment import Assignment


def predictions_of(given: Assignment) -> Predictions:
    model = load_trained_model(given.directory, given.job, given.spec, given.dataset)
    return predict(model, given.spec, given.dataset)


def losses(found: Predictions) -> tuple[float, float, float]:
    """Accuracy, hinge and softmax loss by their definitions, in double precision."""
    scores, rows = found.scores.astype(np.float64), np.arange(len(found.truth))
    own = scores[rows, found.truth]
    terms = np.maximum(0, scores - own[:, None] + 1)
    terms[rows, found.truth] = 0
    cross_entropy = np.log(np.exp(scores - own[:, None]).sum(axis=1))
    return float((scores.argmax(axis=1) == found.truth).mean()), terms.sum(axis=1).mean(), cross_entropy.mean()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": {"type": "softmax"}},
        {"data.standardize": False, "optimizer.lr": 1e-4},
        EVERYTHING,
        {"data.stratify": True},
        {"data.scale": {"subtract": 0.5, "divide": 3.0}},
        {"training.shards": 8, "resources.workers": 2, "checkpoints.best": "val/accuracy"},
    ],
)
def test_metrics_of_predictions_equal_those_that_the_job_recorded(tmp_path: Path, changes: dict[str, Any]) -> None:
    dataset = blobs(tmp_path, rows=3000)
    given = assignment(job(**changes), dataset, tmp_path / "job")
    recorded = points_of(completed(given).events)
    found = predictions_of(given)
    assert found.source == "validation"
    best = load_trained_model(given.directory, given.job, given.spec, dataset).step
    expected = [recorded[name][best] for name in ("val/accuracy", "val/hinge", "val/softmax")]
    # The job rounded the loss of each sample to single precision.
    assert losses(found) == pytest.approx(expected, rel=1e-6, abs=1e-9)

    _, labels = open_dataset(dataset)
    _, rows = split(dataset.rows, 0.2, 5, labels if "data.stratify" in changes else None)
    assert np.array_equal(found.rows, rows)
    assert np.array_equal(found.truth, labels[rows])
    assert found.names == dataset.classes
    assert found.in_words == f"600 validation rows, kept parameters of step {best}"


def test_without_validation_rows_the_training_rows_are_used(tmp_path: Path) -> None:
    dataset = blobs(tmp_path)
    given = assignment(job(**{"data.validation": 0.0}), dataset, tmp_path / "job")
    completed(given)
    found = predictions_of(given)
    assert (found.source, len(found.truth)) == ("training", dataset.rows)
    assert np.array_equal(found.truth, open_dataset(dataset)[1])


def test_large_subsets_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = blobs(tmp_path, rows=500)
    given = assignment(job(), dataset, tmp_path / "job")
    completed(given)
    whole = predictions_of(given)
    monkeypatch.setattr(predictions, "MOST_ROWS", 37)
    found = predictions_of(given)
    assert found.in_words.startswith("37 of 100 validation rows, kept parameters of step ")
    places = np.searchsorted(whole.rows, found.rows)
    assert np.array_equal(whole.rows[places], found.rows)
    assert (np.diff(places) > 0).all()
    assert places[-1] > 50, "rows are chosen from the whole subset"
    assert np.array_equal(found.truth, whole.truth[places])
    assert np.allclose(found.scores, whole.scores[places], rtol=1e-5, atol=1e-5)


def test_a_missing_damaged_or_foreign_checkpoint_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = assignment(job(), blobs(tmp_path), tmp_path / "job")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        predictions_of(given)
    completed(given)
    with pytest.raises(CheckpointError, match="of job"):
        load_trained_model(given.directory, "another", given.spec, given.dataset)
    with monkeypatch.context() as patch:
        patch.setattr(ModelSpec, "graph", lambda _: build_classifier([Linear(units=3)], 21))
        with pytest.raises(CheckpointError, match=r"of another model.*scores\.weight is float32"):
            load_trained_model(given.directory, given.job, given.spec, given.dataset)
    weights = last_checkpoint(given.directory) / "best.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="checksum"):
        predictions_of(given)
