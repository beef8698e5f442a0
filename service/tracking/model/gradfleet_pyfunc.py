"""What MLflow loads a trained model with: needs NumPy, safetensors and the engine, which lie beside it in the artifact.

It goes into the artifact as it stands here, so it imports nothing else of this project.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from core import ParameterLayout, Plan, Program, aligned_zeros, build_classifier, part_from_spec
from core.kernels.gather import convert

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
MAX_ROWS = 1024  # of one forward pass


class ModelFileError(ValueError):
    """A file of the model that can not be used; the message says which and why."""


class Classifier:
    """A trained model that goes forward only."""

    def __init__(self, description: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        self._features: int = description["features"]
        self._classes = np.array(description["classes"])
        layers = [part_from_spec(layer) for layer in description["layers"]]
        self._graph = build_classifier(layers, self._features)
        self._layout = ParameterLayout(self._graph.parameters())
        self._parameters = aligned_zeros((self._layout.size,), np.float32)
        for name, view in self._layout.views(self._parameters).items():
            tensor = tensors.get(name)
            if tensor is None or tensor.shape != view.shape or tensor.dtype != view.dtype:
                raise ModelFileError(f"{WEIGHTS} has no {name} of shape {view.shape} in 32 bits")
            np.copyto(view, tensor)
        scaled = "inputs.mean" in tensors
        self._scale = (tensors["inputs.mean"], tensors["inputs.deviation"]) if scaled else None

    def predict(self, rows: Any, params: dict[str, Any] | None = None) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """Return each row's "label", the name of its class, and its "scores", float32 (rows, classes).

        rows: numbers (rows, features) as they are in the dataset, not scaled. ValueError for another shape.
        """
        features = np.asarray(rows)
        if features.dtype != np.uint8:
            features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self._features:
            raise ValueError(f"rows must be of shape (rows, {self._features}), not {features.shape}")
        scores = np.empty((len(features), len(self._classes)), np.float32)
        plans: dict[int, Plan] = {}  # not kept: two threads may predict at once
        for start in range(0, len(features), MAX_ROWS):
            block = features[start : start + MAX_ROWS]
            if len(block) not in plans:
                plans[len(block)] = self._plan(len(block))
            plan = plans[len(block)]
            convert(block, plan.inputs["features"], self._scale)
            plan.forward()
            scores[start : start + MAX_ROWS] = plan.value("scores")
        return {"label": self._classes[scores.argmax(axis=1)], "scores": scores}

    def _plan(self, rows: int) -> Plan:
        program = Program.compile(self._graph, ["scores"], batch=rows, backward=False)
        return Plan(program, layout=self._layout, parameters=self._parameters)


def _load_pyfunc(path: str) -> Classifier:
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
    return Classifier(description, load(weights))


def description_sha256(description: dict[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a model's description, without its field `sha256`."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
