"""A trained job read for a comparison, compared with the points recorded during training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from service.analysis.replica import read_replica
from service.analysis.trained_model import load_trained_model
from tests.workers.fixtures.helpers import assignment, blobs, completed, job, points_of

if TYPE_CHECKING:
    from pathlib import Path

EPOCHS, STEPS_OF_EPOCH = 4, 5  # 266 rows in batches of 60, the last one smaller


@pytest.mark.parametrize("loss", ["hinge", "softmax"])
def test_a_replica_equals_the_recorded_points(tmp_path: Path, loss: str) -> None:
    changes = {"loss": {"type": loss}, "training.epochs": EPOCHS, "training.batch_size": 60}
    # The best checkpoint is the first of several equally accurate epochs, so it differs from the last one.
    given = assignment(job(**changes, **{"checkpoints.best": "val/accuracy"}), blobs(tmp_path), tmp_path / "job")
    points = points_of(completed(given).events)
    last = EPOCHS * STEPS_OF_EPOCH
    assert load_trained_model(given.directory, given.job, given.spec, given.dataset).step < last

    replica = read_replica(given.directory, given.job, given.spec, given.dataset, last=True)
    figures = replica.figures()
    assert len(replica.truth) == 67
    for name in ("accuracy", "hinge", "softmax"):
        assert figures[name] == pytest.approx(points[f"val/{name}"][last], rel=1e-6)
    active = [points["train/active_fraction"][step] for step in range(1, last + 1)]
    by_epoch = np.average(np.reshape(active, (EPOCHS, STEPS_OF_EPOCH)), axis=1, weights=[60, 60, 60, 60, 26])
    assert replica.course["train/active_fraction"] == pytest.approx(by_epoch)
    assert figures["active"] == pytest.approx(by_epoch[-1])
    for name in ("val/accuracy", "weights/norm"):
        assert replica.course[name].tolist() == [points[name][step] for step in range(5, last + 1, 5)]
    assert figures["weight norm"] == points["weights/norm"][last]


def test_without_validation_rows_there_is_no_validation_accuracy(tmp_path: Path) -> None:
    given = assignment(job(**{"data.validation": 0.0}), blobs(tmp_path), tmp_path / "job")
    completed(given)
    replica = read_replica(given.directory, given.job, given.spec, given.dataset, last=True)
    assert np.isnan(replica.course["val/accuracy"]).all()
    assert len(replica.course["val/accuracy"]) == 3
