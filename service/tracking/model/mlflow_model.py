"""The trained model as the files of an MLflow model, in the documented format of the `python_function` flavor.

The files are written without the mlflow package, which takes seconds to import. None is a pickle: the weights are
safetensors, the rest is JSON, YAML and the source of the engine.
"""

from __future__ import annotations

import io
import json
import platform
import zipfile
from importlib.metadata import version
from importlib.resources import as_file, files
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml
from safetensors import safe_open

from core.tables.treatments import treatment_json
from service.datasets.outputs import output_names
from service.tracking.model.gradfleet_pyfunc import DESCRIPTION, WEIGHTS, description_sha256
from workers.data.dataset import DatasetInfo
from workers.job.preparation import treatments_of
from workers.job.spec import JobSpec
from workers.job.task import task_of
from workers.record.checkpoint import BEST, MODEL, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from core import Task
    from core.tables.treatments import Treatment

LOADER = "gradfleet_pyfunc"
CODE, DATA = "code.zip", "data"
REQUIREMENTS = ("numpy", "safetensors")
# The earliest time in a zip file; a fixed one gives the same bytes for the same files.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def model_files(
    checkpoint: Path, job: str, computation: str, *, dataset: Mapping[str, Any], identity: dict[str, str]
) -> dict[str, bytes | Path]:
    """Return the files of a model by their path in its directory, from a checkpoint of the job.

    dataset: the job's snapshot of it.
    identity: run, model and time, as `MLmodel` names them.

    The parameters are the best ones if the checkpoint has them, otherwise the last. Raises CheckpointError if the
    checkpoint is damaged or belongs to another job.
    """
    header = verify(checkpoint, job, computation)
    trained, weights = _Trained.of(header, dataset), checkpoint / _weights(header)
    data = _described(trained, checkpoint, header, dataset)
    example: Any
    if trained.treatments:
        example = _example_of_columns(weights, trained.treatments)
        form, served = {"type": "dataframe", "pandas_orient": "split"}, "dataframe_split"
    else:
        example = _example(weights, trained.shape, trained.info.dtype)
        form, served = {"type": "ndarray"}, "inputs"
    requirements = [f"{name}=={version(name)}" for name in REQUIREMENTS]
    texts = {
        "MLmodel": _yaml(_mlmodel(_outputs(trained.task, trained.outputs), form) | identity),
        "input_example.json": json.dumps(example),
        "serving_input_example.json": json.dumps({served: example}),
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "python_env.yaml": _yaml({"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}),
        "conda.yaml": _yaml(
            {
                "name": "gradfleet-model",
                "channels": ["conda-forge"],
                "dependencies": [f"python={platform.python_version()}", "pip", {"pip": requirements}],
            }
        ),
    }
    binaries = {f"{DATA}/{name}": content for name, content in data.items()} | {CODE: _code()}
    # MLmodel is last: without it, an upload that was interrupted is not a model.
    return binaries | {path: text.encode() for path, text in reversed(texts.items())}


def trained_model(checkpoint: Path, header: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, bytes | Path]:
    """Return the two files that the loader reads, by name: the model's description, and its weights.

    header: that of the checkpoint; dataset: the job's snapshot of it.
    """
    return _described(_Trained.of(header, dataset), checkpoint, header, dataset)


class _Trained(NamedTuple):
    """What a checkpoint's header and the job's dataset say about the model: the shape of a row, and its outputs."""

    info: DatasetInfo
    treatments: tuple[Treatment, ...]
    shape: list[int]
    outputs: int
    task: Task

    @classmethod
    def of(cls, header: Mapping[str, Any], dataset: Mapping[str, Any]) -> _Trained:
        spec, info = JobSpec.model_validate(header["spec"]), DatasetInfo.from_json(dataset)
        shapes = spec.model.graph().shapes()
        (_, *shape), outputs = shapes["features"], shapes["scores"][1]
        return cls(info, treatments_of(spec.data, info.columns), shape, outputs, task_of(spec.loss, info, outputs))


def _described(
    trained: _Trained, checkpoint: Path, header: Mapping[str, Any], dataset: Mapping[str, Any]
) -> dict[str, bytes | Path]:
    info, weights = trained.info, _weights(header)
    description = {
        "format": 1,
        "job": header["job"],
        "step": header["step"] if header["best"] is None else header["best"]["step"],
        "inputs": trained.shape,
        "task": trained.task,
        "classes": list(info.classes),
        "targets": [] if info.classes else list(output_names(dataset)),
        **_columns(info, trained.treatments, dataset),
        **{part: layers for part, layers in header["spec"]["model"].items() if part in {"layers", "heads"}},
        "weights_sha256": header["files"][weights],
    }
    description["sha256"] = description_sha256(description)
    return {DESCRIPTION: (json.dumps(description, indent=2) + "\n").encode(), WEIGHTS: checkpoint / weights}


def _weights(header: Mapping[str, Any]) -> str:
    """Return the file of the kept parameters in the checkpoint with this header."""
    return MODEL if header["best"] is None else BEST


def _outputs(task: Task, outputs: int) -> list[dict[str, Any]]:
    """Return the signature of the predictions of a model with this many outputs."""
    label, scores = {"name": "label", **_tensor("str", -1)}, {"name": "scores", **_tensor("float32", -1, outputs)}
    match task:
        case "regression":
            return [{"name": "predictions", **_tensor("float32", -1, outputs)}]
        case "multilabel":
            return [{"name": "labels", **_tensor("int64", -1, outputs)}, scores]
        case "binary":
            return [label, {"name": "score", **_tensor("float32", -1)}]
        case "classification":
            return [label, scores]


def _columns(info: DatasetInfo, treatments: Sequence[Treatment], dataset: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the columns by which the model finds its values in a table, and how it prepares them."""
    if not info.columns:
        return {}
    columns = {"columns": [column.to_json() for column in info.columns], "ignored": dataset.get("ignored", [])}
    return columns | ({"treatments": list(map(treatment_json, treatments))} if treatments else {})


def _mlmodel(outputs: list[dict[str, Any]], example: dict[str, str]) -> dict[str, Any]:
    # With inputs in the signature, MLflow would accept one type of number only: not the float64 that pandas reads from
    # a file. The loader takes every type, and checks the shape itself.
    return {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "code": CODE,
                "data": DATA,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
            }
        },
        "mlflow_version": version("mlflow"),
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            **example,
        },
        "signature": {"inputs": None, "outputs": json.dumps(outputs), "params": None},
    }


def _tensor(dtype: str, *shape: int) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(shape)}}


def _example(weights: Path, shape: Sequence[int], dtype: str) -> list[Any]:
    """Return an example row without real data: the one that scaling maps to zero, such as the mean of all rows."""
    with safe_open(weights, framework="numpy") as tensors:
        if "inputs.mean" in tensors.keys():  # noqa: SIM118 - not a mapping
            mean = tensors.get_tensor("inputs.mean").reshape(shape)
            return [(mean.round().clip(0, 255).astype(dtype) if dtype == "uint8" else mean).tolist()]
    return [np.zeros(shape).tolist()]


def _example_of_columns(weights: Path, treatments: tuple[Treatment, ...]) -> dict[str, list[Any]]:
    """Return an example row without real data: what missing numbers are imputed with, and the first categories."""
    with safe_open(weights, framework="numpy") as tensors:
        fill = iter(tensors.get_tensor("inputs.fill").tolist())
    row: dict[str, Any] = {}
    for treatment in treatments:
        column = treatment.column
        if column.kind == "category":
            row[column.name] = next(iter(column.categories), None)
            continue
        numbers = list(islice(fill, column.width))
        if column.source is not None:
            row[column.source] = "2000-01-01"
        else:
            row[column.name] = numbers if column.width > 1 else numbers[0]
    return {"columns": list(row), "data": [list(row.values())]}


def _code() -> bytes:
    """Return the engine and the loader as one zip file that Python can import from: one upload instead of a hundred."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive, as_file(files("core")) as engine:
        sources = {f"core/{path.relative_to(engine).as_posix()}": path.read_bytes() for path in engine.rglob("*.py")}
        sources[f"{LOADER}.py"] = files(__package__).joinpath(f"{LOADER}.py").read_bytes()
        for name, source in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), source, zipfile.ZIP_DEFLATED)
    return package.getvalue()


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False)
