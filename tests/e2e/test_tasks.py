"""Jobs of other tasks than classification, through the whole stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, make_multilabel_classification

from tests.e2e.stack import digits_job, series_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.client import Client


def multilabel() -> tuple[Any, Any]:
    return make_multilabel_classification(400, n_features=12, n_classes=3, n_labels=1, random_state=1)


# Rows and their truth, the loss, the number of outputs, and a metric with the value that is reached at least.
CASES: dict[str, tuple[Callable[[], tuple[Any, Any]], str, int, str, float]] = {
    "regression": (lambda: load_diabetes(return_X_y=True), "squared_error", 1, "val/r2", 0.35),
    "binary": (lambda: load_breast_cancer(return_X_y=True), "soft_margin", 1, "val/roc_auc", 0.98),
    "multilabel": (multilabel, "sigmoid_cross_entropy", 3, "val/roc_auc", 0.85),
}


@pytest.mark.parametrize("task", CASES)
def test_a_job_trains_through_rest(client: Client, tmp_path: Path, task: str) -> None:
    load, loss, outputs, metric, least = CASES[task]
    features, truth = load()
    columns = {f"x{index}": column for index, column in enumerate(features.T)}
    names = ["label"] if task == "binary" else [f"y{index}" for index in range(outputs)]
    columns |= dict(zip(names, truth.reshape(len(truth), -1).T, strict=True))
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    kind = {} if task == "binary" else {"targets": names}
    client.upload_dataset(task, tmp_path / "rows.parquet", **kind)
    data = {"dataset": task} | ({"standardize_targets": True} if task == "regression" else {})
    spec = digits_job(
        data=data,
        model={"layers": [{"type": "linear", "units": outputs}]},
        loss={"type": loss},
        training={"epochs": 10, "batch_size": 32, "seed": 3, "shards": 4},
    )
    preview = client.validate(spec)
    assert preview["task"] == task
    assert metric in preview["metrics"]

    job = client.submit(spec).wait(timeout=60)
    assert job["state"] == "succeeded", job["reason"]
    kept = job["kept"]
    assert kept is not None
    assert {*kept["metrics"]} == {*preview["metrics"]}
    reached = kept["metrics"][metric]
    assert reached is not None
    assert reached > least
    series = series_of(job)
    place = series["val/loss"]["steps"].index(kept["step"])
    assert kept["metrics"]["val/loss"] == series["val/loss"]["values"][place] == np.min(series["val/loss"]["values"])
    assert job["metrics"]["train/loss"] == series["train/loss_epoch"]["values"][-1]
