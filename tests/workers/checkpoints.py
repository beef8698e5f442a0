"""Checkpoints of a small model, and the format read by hand."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from core import ParameterLayout, build_classifier, initialize
from tests.workers.helpers import job
from workers.job.objects import layers_of
from workers.job.spec import JobSpec
from workers.record.checkpoint import BestSoFar, Origin, PatienceSoFar, Snapshot, computation_sha256, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

# Eleven layers, so that the order of names is not the order of layers: "10_linear" comes before "2_linear".
SPEC = JobSpec.model_validate(
    job(**{"model.layers": [{"type": "linear", "units": 5}] * 10 + [{"type": "relu"}, {"type": "linear", "units": 3}]})
)
LAYOUT = ParameterLayout(build_classifier(layers_of(SPEC), 4).parameters())
COMPUTATION = computation_sha256(SPEC.model_dump(mode="json"), "0" * 64)
JOB = "job-1"
FILES = ("best.safetensors", "checkpoint.json", "model.safetensors", "optimizer.safetensors")


def origin(job: str = JOB, computation: str = COMPUTATION, attempt: int = 2) -> Origin:
    inputs = {"mean": np.arange(4, dtype=np.float32)}
    return Origin(job, attempt, SPEC.model_dump(mode="json"), computation, inputs, {"numpy": "2"})


def snapshot(step: int, *, best: bool = True) -> Snapshot:
    """A state that is a function of the step."""
    return Snapshot(
        epoch=step // 3,
        step=step,
        parameters=initialize(LAYOUT, step),
        state={"velocity": initialize(LAYOUT, step + 1)},
        best=BestSoFar("val/loss", 0.1 + 0.2, step - 1, initialize(LAYOUT, step + 2)) if best else None,
        patience=PatienceSoFar(0.5, 2) if best else None,
    )


def write(directory: Path, step: int, *, best: bool = True) -> str:
    return write_checkpoint(directory, origin(), LAYOUT, snapshot(step, best=best))


def place_of(directory: Path, step: int) -> Path:
    return directory / "checkpoints" / f"{step:012d}"


def header_of(place: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((place / "checkpoint.json").read_text())
    return header


def read_safetensors(path: Path) -> Tensors:
    """The format read by hand: eight bytes with the length of a JSON header, the header, the tensors' bytes."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32"
            start, stop = entry["data_offsets"]
            tensors[name] = np.frombuffer(body[start:stop], "<f4").reshape(entry["shape"])
    return tensors


def sha256_in_order_of_name(tensors: Tensors) -> str:
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()
