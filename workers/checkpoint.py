"""Checkpoints: parameters and optimiser state as safetensors, and a JSON header that is written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from core import ParameterLayout

MODEL, OPTIMIZER, HEADER = "model.safetensors", "optimizer.safetensors", "checkpoint.json"


@dataclass(frozen=True)
class Position:
    """Where in its job a checkpoint was taken, and by which attempt."""

    job: str
    attempt: int
    epoch: int
    step: int


def params_sha256(layout: ParameterLayout, parameters: NDArray[Any]) -> str:
    """SHA-256 (hexadecimal) over the parameters' little-endian float32 bytes, in order of name."""
    digest = hashlib.sha256()
    for _, tensor in sorted(layout.views(parameters).items()):
        digest.update(np.ascontiguousarray(tensor, "<f4").tobytes())
    return digest.hexdigest()


def write_checkpoint(
    directory: Path,
    position: Position,
    *,
    layout: ParameterLayout,
    parameters: NDArray[Any],
    state: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    spec: Mapping[str, Any],
    fingerprint: Mapping[str, str],
) -> str:
    """Write a checkpoint into a directory and give the parameters' SHA-256.

    `model.safetensors` holds the parameters by name, and `inputs`, what the model's rows are prepared with.
    `optimizer.safetensors` holds the optimiser's state, `<slot>.<parameter>`. `checkpoint.json` names both with their
    SHA-256; it is written last, so that a checkpoint with a header is whole.
    """
    digest = params_sha256(layout, parameters)
    model = {**{f"inputs.{name}": array for name, array in inputs.items()}, **layout.views(parameters)}
    optimizer = {
        f"{slot}.{name}": tensor for slot, vector in state.items() for name, tensor in layout.views(vector).items()
    }
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        name: _write(directory / name, save({key: np.ascontiguousarray(array) for key, array in tensors.items()}))
        for name, tensors in ((MODEL, model), (OPTIMIZER, optimizer))
    }
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    header = {
        **asdict(position),
        "params_sha256": digest,
        "spec_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
        "spec": spec,
        "files": files,
        "fingerprint": fingerprint,
    }
    _write(directory / HEADER, (json.dumps(header, indent=2) + "\n").encode())
    return digest


def _write(path: Path, content: bytes) -> str:
    """Put a file in its place whole or not at all; give its SHA-256."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return hashlib.sha256(content).hexdigest()
