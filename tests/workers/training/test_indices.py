"""Numbers that are read as indices and are none end a job, and do not train anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core import InvalidIndexError
from tests.fixtures.prepared import prepare_parquet
from tests.workers.fixtures.helpers import assignment, completed, job, train
from workers.data.splitting import split

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

pytestmark = pytest.mark.usefixtures("every_thread")

ROWS, CODES, SEED = 200, 4, 5
LAYERS = [
    {"type": "select", "index": 1, "name": "code"},
    {"type": "embedding", "entries": CODES, "units": 3, "name": "vector"},
    {"type": "linear", "units": 2},
]
OF_BOTH_KINDS = [{"type": "one_hot", "classes": CODES, "name": "vector"}, LAYERS[1]]


def codes_in(directory: Path, **changed: float) -> DatasetInfo:
    """Rows with a measurement and a code from 0 to 3. `changed` are other codes, by row: row7=1.5."""
    codes = np.arange(ROWS) % CODES
    values = codes.astype(float)
    for row, value in changed.items():
        values[int(row.removeprefix("row"))] = value
    columns = {"size": np.linspace(0.3, 2.5, ROWS), "code": values, "label": codes // 2}
    pq.write_table(pa.table(columns), directory / "codes.parquet")
    return prepare_parquet(directory / "codes.parquet", directory / "datasets", "label")


def spec(index: dict[str, Any] = LAYERS[1], **changes: Any) -> dict[str, Any]:
    layers = [LAYERS[0], index, LAYERS[2]]
    return job(**{"model.layers": layers, "data.standardize": False, "resources.cpus_per_worker": 2, **changes})


def error_of(tmp_path: Path, dataset: DatasetInfo, given: dict[str, Any]) -> str:
    (finished,) = train(assignment(given, dataset, tmp_path / "out")).finished
    assert isinstance(finished, InvalidIndexError), finished
    return str(finished)


@pytest.mark.parametrize("index", OF_BOTH_KINDS, ids=lambda layer: layer["type"])
def test_codes_are_learnt(tmp_path: Path, index: dict[str, Any]) -> None:
    outcome = completed(assignment(spec(index, **{"training.epochs": 30}), codes_in(tmp_path), tmp_path / "out"))
    assert outcome.series["val/accuracy"][-1][1] == 1.0


@pytest.mark.parametrize("index", OF_BOTH_KINDS, ids=lambda layer: layer["type"])
@pytest.mark.parametrize("value", [-1.0, 4.0, 0.5, 2.9999, 1e30])
def test_a_number_that_is_no_index_fails_and_is_named(tmp_path: Path, index: dict[str, Any], value: float) -> None:
    training, _ = split(ROWS, 0.2, SEED, None)
    row = int(training[0])
    message = error_of(tmp_path, codes_in(tmp_path, **{f"row{row}": value}), spec(index))
    assert message == (
        f"node 'vector' reads 'code' as indices, which must be integers from 0 to 3, but row {row} has "
        f"{np.float32(value)!s}"
    )


def test_a_validation_row_is_checked_as_well(tmp_path: Path) -> None:
    _, validation = split(ROWS, 0.2, SEED, None)
    row = int(validation[-1])
    assert f"row {row} has 7" in error_of(tmp_path, codes_in(tmp_path, **{f"row{row}": 7.0}), spec())


def test_standardized_codes_fail_in_the_first_step(tmp_path: Path) -> None:
    outcome = train(assignment(spec(**{"data.standardize": True}), codes_in(tmp_path), tmp_path / "out"))
    assert "node 'vector' reads 'code' as indices" in str(outcome.finished[0])
    assert outcome.series == {}


def test_indices_that_are_features_themselves(tmp_path: Path) -> None:
    layers = [{"type": "one_hot", "classes": CODES}, {"type": "flatten"}, {"type": "linear", "units": 2}]
    message = error_of(tmp_path, codes_in(tmp_path), spec(**{"model.layers": layers}))
    assert "node '0_one_hot' reads 'features' as indices" in message
