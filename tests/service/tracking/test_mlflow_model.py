from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from core.plan.passes import MOST_ROWS
from service.tracking.model.gradfleet_pyfunc import ModelFileError, TrainedModel, _load_pyfunc
from service.tracking.model.mlflow_model import model_files
from tests.service.fixtures.models import (
    BEST,
    CLASSES,
    COMPUTATION,
    DEVIATION,
    FEATURES,
    JOB,
    LAST,
    LOAD,
    MEAN,
    checkpoint_in,
    python,
    rows,
    scores_of,
)
from workers.record.checkpoint import CheckpointError


def files_of(checkpoint: Path, computation: str = COMPUTATION, dtype: str = "float32") -> dict[str, bytes]:
    identity = {"run_id": "0" * 32, "model_id": "m-" + "0" * 32, "utc_time_created": "2026-01-01 00:00:00.000000"}
    dataset = {"path": "", "digest": "", "rows": 9, "features": FEATURES, "classes": CLASSES, "dtype": dtype}
    files = model_files(checkpoint, JOB, computation, dataset=dataset, identity=identity)
    return {path: file.read_bytes() if isinstance(file, Path) else file for path, file in files.items()}


def write_model(directory: Path, checkpoint: Path, dtype: str = "float32") -> Path:
    for path, content in files_of(checkpoint, dtype=dtype).items():
        place = directory / "model" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return directory / "model"


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_another_process_loads_the_model_and_predicts_the_same_bits(tmp_path: Path, dtype: str) -> None:
    model = write_model(tmp_path, checkpoint_in(tmp_path), dtype)
    features = rows(50).clip(0, 255).astype(dtype)
    np.save(tmp_path / "rows.npy", features)
    python("-c", LOAD, model, tmp_path / "rows.npy", tmp_path / "answer.npz", cwd=tmp_path)
    answer = np.load(tmp_path / "answer.npz")
    expected = scores_of(features, BEST)
    assert answer["scores"].tobytes() == expected.tobytes()
    assert answer["label"].tolist() == [CLASSES[index] for index in expected.argmax(axis=1)]
    assert answer["example"].tolist() == [MEAN.tolist()]
    assert np.issubdtype(answer["example"].dtype, np.integer if dtype == "uint8" else np.floating)
    assert answer["signed"]


PREDICT_FRAMES = """
import json
import sys
import warnings
warnings.simplefilter("ignore")
import mlflow
import numpy as np
import pandas as pd
frame = pd.read_csv(sys.argv[2])
whole = frame.round().astype(int)
model = mlflow.pyfunc.load_model(sys.argv[1])
mixed = whole.assign(a=frame.a)
array = frame.to_numpy()
given = {"frame": frame, "array": array, "single": frame.astype("float32"), "list": array.tolist(), "mixed": mixed}
given |= {"whole": whole, "whole array": whole.to_numpy(), "bytes": whole.astype("uint8")}
answers = {name: model.predict(rows)["scores"].tolist() for name, rows in given.items()}
try:
    model.predict(frame.assign(label=1))
except Exception as error:
    answers["refusal"] = str(error)
with open(sys.argv[3], "w") as file:
    json.dump(answers, file)
"""


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_data_frame_of_any_numeric_type_can_be_given(tmp_path: Path, dtype: str) -> None:
    model = write_model(tmp_path, checkpoint_in(tmp_path), dtype)
    features = np.abs(rows(5)) + 0.25
    table = tmp_path / "rows.csv"
    np.savetxt(table, features, delimiter=",", header="a,b,c,d", comments="", fmt="%.9g")
    python("-c", PREDICT_FRAMES, model, table, tmp_path / "answers.json", cwd=tmp_path)
    answers = json.loads((tmp_path / "answers.json").read_text())
    whole = features.round()
    mixed = np.column_stack([features[:, :1], whole[:, 1:]])
    refusal = answers.pop("refusal")
    assert "rows must be of shape (rows, 4), not (5, 5)" in refusal
    expected = dict.fromkeys(answers, features) | dict.fromkeys(("whole", "whole array", "bytes"), whole)
    for name, given in (expected | {"mixed": mixed}).items():
        assert np.array(answers[name], np.float32).tolist() == scores_of(given, BEST).tolist(), name


@pytest.mark.parametrize("form", ["json", "csv"])
def test_mlflow_models_predict(tmp_path: Path, form: str) -> None:
    model = write_model(tmp_path, checkpoint_in(tmp_path))
    features = rows(3)
    given = tmp_path / f"rows.{form}"
    if form == "json":
        given.write_text(json.dumps({"inputs": features.tolist()}))
    else:
        np.savetxt(given, features, delimiter=",", header="a,b,c,d", comments="", fmt="%.9g")
    arguments = ("--model-uri", model, "--env-manager", "local", "--input-path", given, "--content-type", form)
    output = tmp_path / "answer.json"
    python("-m", "mlflow", "models", "predict", *arguments, "--output-path", output, cwd=tmp_path)
    answer = json.loads(output.read_text())["predictions"]
    expected = scores_of(features, BEST)
    assert np.array(answer["scores"], np.float32).tolist() == expected.tolist()
    assert answer["label"] == [CLASSES[index] for index in expected.argmax(axis=1)]


def test_the_last_parameters_are_used_without_a_best_checkpoint(tmp_path: Path) -> None:
    model = _load_pyfunc(str(write_model(tmp_path, checkpoint_in(tmp_path, best=False)) / "data"))
    assert model.predict(rows(9))["scores"].tolist() == scores_of(rows(9), LAST).tolist()


def test_rows_are_not_changed_without_standardization(tmp_path: Path) -> None:
    checkpoint = checkpoint_in(tmp_path, standardized=False)
    model = _load_pyfunc(str(write_model(tmp_path, checkpoint) / "data"))
    features = rows(9)
    prepared = (features - MEAN) / DEVIATION
    assert model.predict(prepared)["scores"].tolist() == scores_of(features, BEST).tolist()
    assert json.loads(files_of(checkpoint)["input_example.json"]) == [[0.0] * FEATURES]


def test_uint8_rows_give_the_same_scores_as_floats(tmp_path: Path) -> None:
    model = _load_pyfunc(str(write_model(tmp_path, checkpoint_in(tmp_path), "uint8") / "data"))
    features = np.random.default_rng(0).integers(0, 256, (9, FEATURES), np.uint8)
    expected = scores_of(features.astype(np.float32), BEST)
    for given in (features, features.astype(np.float64), features.tolist()):
        assert model.predict(given)["scores"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("count", [0, 1, MOST_ROWS, 2 * MOST_ROWS + 5])
def test_any_number_of_rows(tmp_path: Path, count: int) -> None:
    model = _load_pyfunc(str(write_model(tmp_path, checkpoint_in(tmp_path)) / "data"))
    features = rows(count)
    answer = model.predict(features)
    assert answer["label"].shape == (count,)
    for start in range(0, count, MOST_ROWS):
        block = slice(start, start + MOST_ROWS)
        assert answer["scores"][block].tolist() == scores_of(features[block], BEST).tolist()


def test_rows_of_another_width_are_rejected(tmp_path: Path) -> None:
    model: TrainedModel = _load_pyfunc(str(write_model(tmp_path, checkpoint_in(tmp_path)) / "data"))
    with pytest.raises(ValueError, match=r"must be of shape \(rows, 4\), not \(2, 5\)"):
        model.predict(np.zeros((2, 5)))


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_damaged_file_is_rejected(tmp_path: Path, name: str) -> None:
    data = write_model(tmp_path, checkpoint_in(tmp_path)) / "data"
    content = (data / name).read_bytes()
    for position in (0, len(content) // 2, len(content) - 3):
        damaged = bytearray(content)
        damaged[position] ^= 1
        (data / name).write_bytes(damaged)
        with pytest.raises(ModelFileError, match=f"{name} is damaged"):
            _load_pyfunc(str(data))


def test_weights_of_another_model_are_rejected_by_name() -> None:
    description = {
        "task": "classification",
        "inputs": [FEATURES],
        "classes": CLASSES,
        "layers": [{"type": "linear", "units": 3}],
    }
    weight, bias = np.zeros((FEATURES, 3), np.float32), np.zeros(3, np.float32)
    TrainedModel(description, {"scores.weight": weight, "scores.bias": bias})
    with pytest.raises(ModelFileError, match=r"weights\.safetensors is not of this model.*scores\.bias is missing"):
        TrainedModel(description, {"scores.weight": weight})


def test_a_model_of_images_takes_images_and_lists_of_numbers() -> None:
    layers = [{"type": "conv2d", "filters": 2, "kernel": (2, 3)}, {"type": "flatten"}, {"type": "linear", "units": 3}]
    description = {"task": "classification", "inputs": [2, 3, 2], "classes": CLASSES, "layers": layers}
    random = np.random.default_rng(0)
    shapes = {"0_conv2d.weight": (2, 3, 2, 2), "0_conv2d.bias": 2, "scores.weight": (2, 3), "scores.bias": 3}
    weights = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    mean, deviation = random.random((2, 12), np.float32) + 1
    model = TrainedModel(description, weights | {"inputs.mean": mean, "inputs.deviation": deviation})
    images = random.integers(0, 9, (7, 2, 3, 2)).astype(np.uint8)
    # A window of the image's size makes the convolution a product of matrices.
    hidden = ((images.reshape(7, 12) - mean) / deviation) @ weights["0_conv2d.weight"].reshape(12, 2)
    expected = (hidden + weights["0_conv2d.bias"]) @ weights["scores.weight"] + weights["scores.bias"]
    for given in (images, images.astype(float), images.reshape(7, 12), images.tolist()):
        np.testing.assert_allclose(model.predict(given)["scores"], expected, rtol=1e-4)
    for wrong in (images.reshape(7, 3, 2, 2), images[:, :, :, :1], images[0], images.reshape(7, 6, 2)):
        with pytest.raises(ValueError, match=r"must be of shape \(rows, 12\) or \(rows, 2, 3, 2\), not "):
            model.predict(wrong)


def test_a_checkpoint_that_is_damaged_or_of_another_job_is_rejected(tmp_path: Path) -> None:
    checkpoint = checkpoint_in(tmp_path)
    with pytest.raises(CheckpointError, match="another spec"):
        files_of(checkpoint, "f" * 64)
    with (checkpoint / "best.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=r"best\.safetensors does not have its checksum"):
        files_of(checkpoint)


def test_files_are_reproducible_and_contain_no_pickle(tmp_path: Path) -> None:
    files = files_of(checkpoint_in(tmp_path))
    assert files == files_of(checkpoint_in(tmp_path))
    assert list(files)[-1] == "MLmodel"
    assert {Path(path).suffix for path in files} == {"", ".json", ".safetensors", ".txt", ".yaml", ".zip"}
    with zipfile.ZipFile(BytesIO(files["code.zip"])) as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".py"}
    requirements = files["requirements.txt"].decode().split()
    assert [line.partition("==")[0] for line in requirements] == ["numpy", "safetensors"]


@pytest.mark.parametrize("value", [-0.7, 3.0, 1.5])
def test_a_row_with_a_number_that_is_no_index_is_refused(value: float) -> None:
    layers = [{"type": "one_hot", "classes": 3, "name": "codes"}, {"type": "flatten"}, {"type": "linear", "units": 2}]
    weights = {"scores.weight": np.eye(6, 2, dtype=np.float32), "scores.bias": np.zeros(2, np.float32)}
    model = TrainedModel({"task": "classification", "inputs": [2], "classes": ["a", "b"], "layers": layers}, weights)
    features = np.zeros((MOST_ROWS + 5, 2), np.float32)
    assert set(model.predict(features)["label"]) == {"a"}
    features[MOST_ROWS + 3, 1] = value
    with pytest.raises(ValueError, match=rf"'codes' reads 'features' as indices.* row {MOST_ROWS + 3} has {value}"):
        model.predict(features)
