"""Loader of a trained model for MLflow. It needs NumPy, safetensors and the engine, which is part of the artifact.

This file is copied into the artifact, so it imports nothing else of this project.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from core import Head, Model, build_classifier, entry_from_spec, split_tensors
from core.kernels.gather import convert
from core.tables.column import Column
from core.tables.encoding import encode
from core.tables.preparation import Preparation, Preparer
from core.tables.treatments import treatment_from_json

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"


class ModelFileError(ValueError):
    """A file of the model cannot be used; the message says which and why."""


class TrainedModel:
    """A trained model, for predictions only."""

    def __init__(self, description: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        self._shape: tuple[int, ...] = tuple(description["inputs"])
        self._task: str = description["task"]
        self._classes = np.array(description["classes"])
        self._columns = tuple(map(Column.from_json, description.get("columns", ())))
        self._ignored = frozenset(description.get("ignored", ()))
        layers = [entry_from_spec(layer) for layer in description["layers"]]
        # Heads have parameters in the file, but no prediction computes them.
        heads = [Head.from_json(head) for head in description.get("heads", [])]
        self._model = Model(build_classifier(layers, self._shape, heads))
        parameters, preparation = split_tensors(tensors)
        try:
            self._model.load(parameters)
        except ValueError as error:
            raise ModelFileError(f"{WEIGHTS} is not of this model: {error}") from error
        self._outputs: int = self._model.graph.shapes()["scores"][1]
        self._scale = self._preparer = None
        if treatments := tuple(map(treatment_from_json, description.get("treatments", ()), self._columns)):
            self._preparer = Preparer(Preparation.of(treatments, preparation))
        elif "mean" in preparation:
            self._scale = preparation["mean"], preparation["deviation"]
        self._target_scale = (
            (preparation["target_mean"].astype(np.float64), preparation["target_deviation"].astype(np.float64))
            if "target_mean" in preparation
            else None
        )

    def predict(self, rows: Any, params: dict[str, Any] | None = None) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """Return the predictions for each row, by name.

        - classification: "label", the name of its class, and "scores", float32 (rows, classes);
        - binary: "label", the name of its class, and "score", float32 (rows,), which is greater than 0 for the second;
        - multilabel: "labels", int64 (rows, labels) of zeros and ones, and "scores", float32 (rows, labels);
        - regression: "predictions", float32 (rows, targets), in the targets' own units.

        rows: the columns of the dataset with values as its files had them, not scaled: a DataFrame or a mapping of
        names to arrays or lists, in any order, or an array or list (rows, columns) in the dataset's order. For a
        dataset without names, numbers of any type (rows, features), also in the shape in which the model reads them,
        such as (rows, height, width, channels). Numbers are converted to float32.

        ValueError for a column that is missing or unknown, for another shape, for text that is no number, for a missing
        value unless the model was trained with preparation, and for a number that the model reads as an index and is
        none.
        """
        outputs = self._predict(rows)
        match self._task:
            case "regression":
                if self._target_scale is not None:
                    mean, deviation = self._target_scale
                    outputs = (outputs * deviation + mean).astype(np.float32)
                return {"predictions": outputs}
            case "multilabel":
                return {"labels": (outputs > 0).astype(np.int64), "scores": outputs}
            case "binary":
                return {"label": self._classes[(outputs[:, 0] > 0).astype(np.int64)], "score": outputs[:, 0]}
            case _:
                return {"label": self._classes[outputs.argmax(axis=1)], "scores": outputs}

    def _features(self, rows: Any) -> NDArray[Any]:
        """The numbers of the rows as the dataset stores them."""
        table = _by_name(rows)
        if table is not None and self._columns:
            return self._complete(encode(self._columns, table, self._ignored))
        if isinstance(rows, Mapping):
            raise ValueError("the columns of this model have no names: rows must be an array")  # noqa: TRY004
        if self._preparer is not None or any(column.part for column in self._columns):
            return self._complete(encode(self._columns, self._by_position(rows)))
        features = np.asarray(rows)
        if features.dtype != np.uint8:
            features = np.asarray(features, np.float32)
        width = prod(self._shape)
        allowed = dict.fromkeys([(width,), self._shape])
        if features.shape[1:] not in allowed:
            raise _wrong_shape(features, *allowed)
        return self._complete(features.reshape(len(features), width))

    def _by_position(self, rows: Any) -> dict[str, NDArray[Any]]:
        """The columns of an array (rows, columns); a date is one of them."""
        widths = {column.source or column.name: column.width for column in self._columns}
        array = np.array(rows, object) if isinstance(rows, list) else np.asarray(rows)
        if array.shape[1:] != (sum(widths.values()),):
            raise _wrong_shape(array, (sum(widths.values()),))
        parts = np.split(array, np.cumsum([*widths.values()])[:-1], axis=1)
        return {
            name: part if width > 1 else part[:, 0] for (name, width), part in zip(widths.items(), parts, strict=True)
        }

    def _complete(self, features: NDArray[Any]) -> NDArray[Any]:
        """The same numbers; ValueError if one is missing that is not imputed."""
        if self._preparer is None and features.dtype != np.uint8 and np.isnan(features).any():
            row, position = np.argwhere(np.isnan(features))[0].tolist()
            names = [column.name for column in self._columns for _ in range(column.width)]
            which = f"column {names[position]!r}" if names else f"column {position + 1}"
            raise ValueError(f"{which} has no value in row {row + 1}: the model was trained without missing values")
        return features

    def _predict(self, rows: Any) -> NDArray[np.float32]:
        features = self._features(rows)
        scores = np.empty((len(features), self._outputs), np.float32)
        model = self._model.with_own_plans()  # two threads may predict at once
        most = self._model.rows_per_pass
        for start in range(0, len(features), most):
            block = range(start, min(start + most, len(features)))
            plan = model.plan(len(block))
            if self._preparer is not None:
                self._preparer.load(features, np.arange(block.start, block.stop), plan.inputs["features"])
            else:
                convert(features[block.start : block.stop], plan.inputs["features"], self._scale)
            plan.forward()
            model.indices.check(plan, block)
            scores[block.start : block.stop] = plan.value("scores")
        return scores


def _by_name(rows: Any) -> Mapping[str, Any] | None:
    """The columns of a mapping or of a DataFrame with names; None for anything else."""
    if isinstance(rows, Mapping):
        return rows
    if not (hasattr(rows, "columns") and hasattr(rows, "iloc")):
        return None
    names = list(rows.columns)
    if not all(isinstance(name, str) for name in names):
        return None
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise ValueError(f"has {times} columns {name!r}: each must have a name of its own")
    return {name: rows.iloc[:, index].to_numpy() for index, name in enumerate(names)}


def _wrong_shape(array: NDArray[Any], *allowed: tuple[int, ...]) -> ValueError:
    shapes = " or ".join(f"(rows, {', '.join(map(str, shape))})" for shape in allowed)
    return ValueError(f"rows must be of shape {shapes}, not {array.shape}")


def _load_pyfunc(path: str) -> TrainedModel:
    """Called by MLflow with the model's data directory. Raises ModelFileError for files that are not as written."""
    try:
        description = json.loads((Path(path) / DESCRIPTION).read_bytes())
        checksum = description.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFileError(f"{DESCRIPTION} is damaged: {error}") from error
    if description_sha256(description) != checksum:
        raise ModelFileError(f"{DESCRIPTION} is damaged: it does not have its checksum")
    weights = (Path(path) / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
        raise ModelFileError(f"{WEIGHTS} is damaged: it does not have its checksum")
    return TrainedModel(description, load(weights))


def description_sha256(description: dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a model's description, without its field `sha256`."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
