"""The saved model of a table takes raw columns by name, and prepares them as the job did."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.analysis.pictures import Subject, draw_pictures
from service.analysis.predictions import predict
from service.analysis.trained_model import load_trained_model
from service.tracking.model.gradfleet_pyfunc import TrainedModel, _load_pyfunc
from service.tracking.model.mlflow_model import model_files
from tests.service.fixtures.models import python
from tests.workers.fixtures.helpers import assignment, completed, job, last_checkpoint
from tests.workers.fixtures.tabular import numbers, passengers, table_dataset
from workers.data.dataset import open_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workers.data.dataset import DatasetInfo
    from workers.training.assignment import Assignment

IDENTITY = {"run_id": "0" * 32, "model_id": "m-" + "0" * 32, "utc_time_created": "2026-01-01 00:00:00.000000"}
RULES = [{"columns": ["fare"], "log": True, "scale": "minmax"}, {"columns": ["port"], "impute": "most_frequent"}]
SPEC: dict[str, Any] = {
    "data.dataset": "passengers",
    "data.prepare": RULES,
    "model.layers": [{"type": "linear", "units": 8}, {"type": "relu"}, {"type": "linear", "units": 2}],
}


def write_model(directory: Path, given: Assignment, dataset: DatasetInfo) -> Path:
    """Write the files of a job's model; returns their directory."""
    document = dataset.to_json() | {"ignored": ["survived"]}
    checkpoint = last_checkpoint(given.directory)
    files = model_files(checkpoint, given.job, given.computation_sha256, dataset=document, identity=IDENTITY)
    for path, content in files.items():
        place = directory / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return directory / "model"


def raw_table(dataset: DatasetInfo, rows: Any) -> dict[str, list[Any]]:
    """Rows of a dataset as people have them."""
    features, _ = open_dataset(dataset)
    return {
        column.name: [
            None if math.isnan(value) else column.categories[int(value)] if column.categories else value
            for value in features[rows, position].tolist()
        ]
        for position, column in enumerate(dataset.columns)
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assignment, DatasetInfo, Path]:
    directory = tmp_path_factory.mktemp("prepared")
    dataset = passengers(directory)
    given = assignment(job(**SPEC), dataset, directory / "job")
    completed(given)
    return given, dataset, write_model(directory, given, dataset)


PREDICT = """
import json
import sys
import warnings
warnings.simplefilter("ignore")
import mlflow
import pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.DataFrame(json.load(open(sys.argv[2])))
assert frame.age.isna().any() and frame.port.isna().any()
given = {
    "frame": frame,
    "reversed": frame[frame.columns[::-1]].assign(survived="yes"),
    "categorical": frame.astype({"sex": "category", "port": "category", "deck": "string"}),
    "text": frame.assign(fare=frame.fare.astype(str)),
    "array": frame.to_numpy(object),
}
answers = {name: model.predict(rows)["scores"].tolist() for name, rows in given.items()}
answers["example"] = model.predict(model.input_example)["scores"].tolist()
answers["columns"] = list(model.input_example.columns)
with open(sys.argv[3], "w") as file:
    json.dump(answers, file)
"""


def test_another_process_predicts_from_raw_columns_what_the_job_predicted(
    trained: tuple[Assignment, DatasetInfo, Path], tmp_path: Path
) -> None:
    given, dataset, model = trained
    found = predict(load_trained_model(given.directory, given.job, given.spec, dataset), given.spec, dataset)
    (tmp_path / "rows.json").write_text(json.dumps(raw_table(dataset, found.rows)))
    python("-c", PREDICT, model, tmp_path / "rows.json", tmp_path / "answers.json", cwd=tmp_path)
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert answers.pop("columns") == ["fare", "age", "sex", "port", "deck"]
    assert np.isfinite(answers.pop("example")).all()
    assert len(answers) == 5
    for name, scores in answers.items():
        np.testing.assert_allclose(scores, found.scores, rtol=1e-5, atol=1e-6, err_msg=name)
    accuracy = np.mean(found.scores.argmax(axis=1) == found.truth)
    events = completed(given).evaluated.metrics
    assert events["val/accuracy"] == pytest.approx(accuracy)


def loaded(trained: tuple[Assignment, DatasetInfo, Path]) -> TrainedModel:
    model: TrainedModel = _load_pyfunc(str(trained[2] / "data"))
    return model


ROW: dict[str, list[Any]] = {"fare": [7.25], "age": [22], "sex": ["male"], "port": ["S"], "deck": ["deck 03"]}


def test_values_that_the_dataset_does_not_have(trained: tuple[Assignment, DatasetInfo, Path]) -> None:
    """Unseen categories and missing values, also in columns that have neither in the dataset."""
    model = loaded(trained)
    usual = model.predict(ROW)["scores"]
    assert model.predict(ROW | {"fare": ["7.25"], "age": [22.0]})["scores"].tobytes() == usual.tobytes()
    # "X" is a category of the dataset that no row has.
    unseen = model.predict(ROW | {"port": ["X"]})["scores"]
    assert unseen.tobytes() == model.predict(ROW | {"port": ["Southampton"]})["scores"].tobytes() != usual.tobytes()
    assert model.predict(ROW | {"port": [None]})["scores"].tobytes() == usual.tobytes()  # the most frequent one
    for column in ("fare", "deck", "sex"):
        assert np.isfinite(model.predict(ROW | {column: [None]})["scores"]).all()
    assert np.isfinite(model.predict(ROW | {"fare": [-1e6]})["scores"]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({name: values for name, values in ROW.items() if name != "age"}, "no column 'age'"),
        (ROW | {"cabin": ["C85"]}, "a column 'cabin', which is unknown"),
        (ROW | {"age": ["old"]}, "'age' in row 1 has 'old', which is not a number"),
        (ROW | {"age": [1, 2]}, "2 rows"),
        ([[7.25, 22]], r"must be of shape \(rows, 5\), not \(1, 2\)"),
    ],
)
def test_tables_that_the_model_cannot_read(
    trained: tuple[Assignment, DatasetInfo, Path], rows: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(trained).predict(rows)


def test_columns_of_plain_numbers_are_matched_by_name_too(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(3, 20, (2, 211)).astype(np.float32)
    columns = [numbers(name, values[index].tolist()) for index, name in enumerate("ab")]
    dataset = table_dataset(tmp_path, columns, values[0] > values[1], classes=("less", "more"))
    linear = {"model.layers": [{"type": "linear", "units": 2}], "training.epochs": 10}
    given = assignment(job(**linear), dataset, tmp_path / "job")
    completed(given)
    model: TrainedModel = _load_pyfunc(str(write_model(tmp_path, given, dataset) / "data"))
    table: Mapping[str, Any] = {"b": values[1], "a": values[0]}
    answer = model.predict(table)
    assert np.mean(answer["label"] == np.where(values[0] > values[1], "more", "less")) > 0.9
    assert answer["scores"].tobytes() == model.predict(values.T)["scores"].tobytes()
    for missing in (table | {"a": [np.nan, *values[0][1:]]}, np.array([[np.nan, 1]])):
        with pytest.raises(ValueError, match="column 'a' has no value in row 1: the model was trained without missing"):
            model.predict(missing)


def test_pictures_of_a_prepared_job(trained: tuple[Assignment, DatasetInfo, Path]) -> None:
    """Prepared columns are no pixels, even where a picture could have as many."""
    given, dataset, _ = trained
    subject = Subject(given.job, "a job", given.directory, given.spec, dataset, dataset.classes)
    drawn = draw_pictures(subject)
    assert drawn.failures == {}
    assert "confusion_matrix.png" in drawn.files
    assert not {"first_layer.png", "activation_maps.png"} & drawn.files.keys()


def test_a_date_is_one_column_of_the_table() -> None:
    """The dataset has its parts; a table has the date, also in an array."""
    columns = [{"name": f"day.{part}", "kind": "number", "source": "day", "part": part} for part in ("year", "month")]
    model = TrainedModel(
        {
            "task": "regression",
            "inputs": [3],
            "classes": [],
            "layers": [{"type": "linear", "units": 3}],
            "columns": [*columns, {"name": "size", "kind": "number"}],
        },
        {"scores.weight": np.eye(3, dtype=np.float32), "scores.bias": np.zeros(3, np.float32)},
    )
    expected = [[2026, 11, 2.5], [1999, 1, 7]]
    days = ["2026-11-30", "1999-01-05"]
    for rows in (
        {"size": [2.5, 7], "day": days},
        {"size": ["2.5", "7"], "day": np.array(days, "datetime64[D]")},
        [[days[0], 2.5], [days[1], 7]],
        np.array([[days[0], "2.5"], [days[1], "7"]]),
    ):
        assert model.predict(rows)["predictions"].tolist() == expected
    with pytest.raises(ValueError, match="'day' in row 1 has 'soon'"):
        model.predict({"size": [1], "day": ["soon"]})
