"""Loader of a trained model for MLflow. It needs NumPy, safetensors and the engine, which is part of the artifact.

This file is copied into the artifact, so it imports nothing else of this project.
"""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from core import Head, Model, build_classifier, entry_from_spec, split_tensors
from core.kernels.gather import convert

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"


class ModelFileError(ValueError):
    """A file of the model cannot be used; the message says which and why."""


class TrainedModel:
    """A trained model, for predictions only."""

    def __init__(self, description: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        self._shape: tuple[int, ...] = tuple(description["inputs"])
        self._task: str = description["task"]
        self._classes = np.array(description["classes"])
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
        self._scale = (preparation["mean"], preparation["deviation"]) if "mean" in preparation else None
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

        rows: an array, list or DataFrame of numbers of any type, (rows, features), as they are in the dataset, not
        scaled, or in the shape in which the model reads them, such as (rows, height, width, channels). They are
        converted to float32. ValueError for another shape, for text, and for a number that the model reads as an index
        and is none.
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

    def _predict(self, rows: Any) -> NDArray[np.float32]:
        features = np.asarray(rows)
        if features.dtype != np.uint8:
            features = np.asarray(features, np.float32)
        width = prod(self._shape)
        allowed = dict.fromkeys([(width,), self._shape])
        if features.shape[1:] not in allowed:
            shapes = " or ".join(f"(rows, {', '.join(map(str, shape))})" for shape in allowed)
            raise ValueError(f"rows must be of shape {shapes}, not {features.shape}")
        features = features.reshape(len(features), width)
        scores = np.empty((len(features), self._outputs), np.float32)
        model = self._model.with_own_plans()  # two threads may predict at once
        most = self._model.rows_per_pass
        for start in range(0, len(features), most):
            block = features[start : start + most]
            plan = model.plan(len(block))
            convert(block, plan.inputs["features"], self._scale)
            plan.forward()
            model.indices.check(plan, range(start, start + len(block)))
            scores[start : start + len(block)] = plan.value("scores")
        return scores


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
