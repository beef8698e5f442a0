"""Models that read images: rows of a dataset in the shape of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.analysis.predictions import predict
from service.analysis.trained_model import load_trained_model
from tests.workers.fixtures.helpers import assignment, completed, images, job

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = [5, 6, 2]
LAYERS: list[dict[str, Any]] = [
    {"type": "conv2d", "filters": 4, "kernel": 3, "padding": "same", "name": "conv"},
    {"type": "relu", "name": "rectified"},
    {"type": "max_pool2d", "kernel": 2, "name": "pooled"},
    {"type": "flatten", "name": "flat"},
    {"type": "linear", "units": 3},
]
PREPARED: dict[str, dict[str, Any]] = {
    "scaled": {"standardize": False, "scale": {"subtract": [100, 90], "divide": 60}},
    "augmented": {"augmentation": [{"type": "flip"}, {"type": "crop", "padding": 1}]},
}


def spec(data: dict[str, Any], layers: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    data = {"dataset": "images", "validation": 0.2, **data}
    return job(**{"data": data, "model.layers": layers, "training.batch_size": 45, **changes})


@pytest.mark.parametrize("prepared", PREPARED)
def test_the_bits_are_those_of_rows_that_a_layer_reshapes(tmp_path: Path, prepared: str) -> None:
    dataset, data = images(tmp_path), PREPARED[prepared]
    reshaped = completed(assignment(spec(data, [{"type": "reshape", "shape": SHAPE}, *LAYERS]), dataset, tmp_path))
    for name, changes in {
        "default": {},
        "given": {"model.inputs": SHAPE},
        "workers": {"resources": {"workers": 2, "cpus_per_worker": 2}},
    }.items():
        found = completed(given := assignment(spec(data, LAYERS, **changes), dataset, tmp_path / name))
        assert given.spec["model"]["inputs"] == SHAPE
        assert (found.params_sha256, found.series) == (reshaped.params_sha256, reshaped.series)


@pytest.mark.parametrize(("most", "rows"), [(2**26, 1024), (20_000, 4), (1, 1)])
def test_predictions_are_those_of_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, rows: int
) -> None:
    monkeypatch.setattr("core.plan.passes.MOST_BYTES", most)
    given = assignment(spec(PREPARED["scaled"], LAYERS), images(tmp_path), tmp_path / "job")
    evaluated = completed(given).evaluated
    trained = load_trained_model(given.directory, given.job, given.spec, given.dataset)
    assert trained.model.rows_per_pass == rows
    found = predict(trained, given.spec, given.dataset)
    assert np.mean(found.predicted == found.truth) == evaluated.metrics["val/accuracy"]
    assert found.source == "validation"
