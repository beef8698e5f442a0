"""Tests that need a GPU: results of CuPy agree with NumPy, and are bitwise equal in every run. Use `make test-gpu`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from tests.core.test_contract import every_node
from tests.core.test_cupy_form import passes
from tests.fixtures.prepared import prepare_parquet
from tests.workers.fixtures.helpers import EVERYTHING, assignment, completed, job, last_checkpoint, train
from workers.exchange.control import Command
from workers.machine.device import DeviceError, Gpu

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workers.fixtures.helpers import Outcome
    from workers.data.dataset import DatasetInfo


def unavailable() -> str:
    """Return why these tests cannot run, or an empty string."""
    try:
        Gpu()
    except DeviceError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no GPU: {unavailable()}")

LAYERS = [{"type": "linear", "units": 64}, {"type": "relu"}, {"type": "linear", "units": 10}]
ON_GPUS = {"resources.gpus_per_worker": 1}
JOBS: dict[str, dict[str, Any]] = {
    "hinge": {"model.layers": LAYERS, "optimizer.lr": 0.02},
    "softmax": {"model.layers": LAYERS, "loss": {"type": "softmax"}, "optimizer": {"type": "adam", "lr": 0.002}},
    "everything": {**EVERYTHING, "model.layers": [*EVERYTHING["model.layers"][:-1], {"type": "linear", "units": 10}]},
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    directory = tmp_path_factory.mktemp("digits")
    values, labels = load_digits(return_X_y=True)
    columns = {f"x{index}": column for index, column in enumerate(values.T)} | {"label": labels}
    pq.write_table(pa.table(columns), directory / "digits.parquet")
    return prepare_parquet(directory / "digits.parquet", directory / "datasets", "label")


def trained(dataset: DatasetInfo, directory: Path, **changes: Any) -> Outcome:
    return completed(assignment(job(**{"training.shards": 4, **changes}), dataset, directory))


def losses(outcome: Outcome, name: str) -> list[float]:
    return [value for _, value in outcome.series[name]]


@every_node
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_node_agrees_with_the_host_and_is_bitwise_reproducible(case: Any, dtype: Any) -> None:
    xp = Gpu().xp
    precision = 1e-4 if dtype == np.float32 else 1e-10
    first, second = passes(case, xp, dtype), passes(case, xp, dtype)
    for one, other, host in zip(first, second, passes(case, np, dtype), strict=True):
        assert one.tobytes() == other.tobytes()
        np.testing.assert_allclose(one, host, rtol=precision, atol=precision * max(1, np.abs(host).max(initial=0)))


@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
def test_training_agrees_with_the_host_and_is_bitwise_reproducible(
    changes: dict[str, Any], digits: DatasetInfo, tmp_path: Path
) -> None:
    on_host = trained(digits, tmp_path / "host", **changes)
    first, second = (trained(digits, tmp_path / name, **changes, **ON_GPUS) for name in ("first", "second"))
    assert (first.params_sha256, first.series) == (second.params_sha256, second.series)
    for name in ("train/loss", "val/loss"):
        np.testing.assert_allclose(losses(first, name), losses(on_host, name), rtol=0.01)
    assert losses(first, "train/loss")[-1] < losses(first, "train/loss")[0] / 2


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_no_bit(workers: int, digits: DatasetInfo, tmp_path: Path) -> None:
    """In this test the workers share one GPU and its page-locked memory."""
    one = trained(digits, tmp_path / "one", **JOBS["everything"], **ON_GPUS)
    several = trained(digits, tmp_path / "several", **JOBS["everything"], **ON_GPUS, **{"resources.workers": workers})
    assert (several.params_sha256, several.series) == (one.params_sha256, one.series)


def test_resuming_from_a_checkpoint_changes_no_bit(digits: DatasetInfo, tmp_path: Path) -> None:
    whole = trained(digits, tmp_path / "whole", **JOBS["everything"], **ON_GPUS)
    spec = job(**{"training.shards": 4, **JOBS["everything"], **ON_GPUS})
    given = assignment(spec, digits, tmp_path / "parts")
    train(given, pending_command=lambda: Command.STOP | Command.CHECKPOINT)
    rest = train(given, checkpoint=last_checkpoint(given.directory))
    assert rest.params_sha256 == whole.params_sha256
