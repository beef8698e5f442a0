"""Checkpoints: the whole state between two steps, from which any number of workers continues with the same bits.

`checkpoints/<step>/` holds `model.safetensors` (the parameters by name, and `inputs.*`, the scaling or preparation of
the rows), `optimizer.safetensors` (the optimizer's state, `<slot>.<parameter>`), `best.safetensors` (like the model, of
the best step so far) and `checkpoint.json`, which lists the files with their SHA-256 and has a checksum of its own. A
directory gets its name only when all of it is on disk. If a checksum does not match, the checkpoint before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from core import ParameterLayout, aligned_zeros, split_tensors
from core.model import PREPARATION
from workers.machine.error_text import text_of
from workers.machine.files import sync_directory, write_durably

CHECKPOINTS = "checkpoints"
MODEL, OPTIMIZER, BEST, HEADER = "model.safetensors", "optimizer.safetensors", "best.safetensors", "checkpoint.json"
NAME = re.compile(r"\d{12}")

Vector = NDArray[Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: incomplete, damaged, or of another job; the message says why."""


@dataclass(frozen=True)
class BestSoFar:
    """The parameters (flat vector) with the best value of a metric, and the step after which they had it."""

    metric: str
    value: float
    step: int
    parameters: Vector


@dataclass(frozen=True)
class PatienceSoFar:
    """State of early stopping: the best value so far, and the number of epochs since."""

    value: float | None
    stale_epochs: int


@dataclass(frozen=True)
class Snapshot:
    """The state of training after `step` steps: flat vectors of the parameters and of each slot of the optimizer.

    `epoch_sums` are the sums over the steps of an epoch that has begun; None if they are not known. `milestones` are
    the digests of the parameters at the milestones up to that step, by step.
    """

    epoch: int
    step: int
    parameters: Vector
    state: Mapping[str, Vector]
    best: BestSoFar | None
    patience: PatienceSoFar | None
    epoch_sums: Sequence[float] | None = None
    milestones: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """The job and attempt that write checkpoints.

    `computation` is the SHA-256 of everything that the result depends on, `inputs` the scaling or preparation of the
    rows, by name.
    """

    job: str
    attempt: int
    spec: Mapping[str, Any]
    computation: str
    inputs: Mapping[str, Vector]
    fingerprint: Mapping[str, str]


def computation_sha256(spec: Mapping[str, Any], dataset_digest: str) -> str:
    """SHA-256 (hexadecimal) of everything that the bits of a job's result depend on.

    This excludes its name, its resources, except for the use of GPUs, and the times of its checkpoints.
    """
    parts = ("data", "model", "loss", "regularization", "optimizer", "training")
    computation = {part: spec[part] for part in parts} | {"dataset_digest": dataset_digest}
    if spec["resources"]["gpus_per_worker"]:
        computation["device"] = "gpu"
    return hashlib.sha256(_canonical(computation)).hexdigest()


def params_sha256(layout: ParameterLayout, parameters: Vector) -> str:
    """SHA-256 (hexadecimal) over the parameters' little-endian float32 bytes, in order of name."""
    digest = hashlib.sha256()
    for _, tensor in sorted(layout.views(parameters).items()):
        digest.update(np.ascontiguousarray(tensor, "<f4").tobytes())
    return digest.hexdigest()


def state_sha256(layout: ParameterLayout, snapshot: Snapshot) -> str:
    """SHA-256 (hexadecimal) of everything that the steps after a snapshot depend on, other than the spec and the data.

    It is over canonical JSON, in which each vector is its digest as parameters. Every run of a job has the same ones.
    """
    best = snapshot.best
    state = {
        "step": snapshot.step,
        "parameters": params_sha256(layout, snapshot.parameters),
        "state": {slot: params_sha256(layout, vector) for slot, vector in snapshot.state.items()},
        "best": best and [best.metric, best.value, best.step, params_sha256(layout, best.parameters)],
        "patience": snapshot.patience and vars(snapshot.patience),
        "epoch_sums": None if snapshot.epoch_sums is None else list(snapshot.epoch_sums),
    }
    return hashlib.sha256(_canonical(state)).hexdigest()


def write_checkpoint(directory: Path, origin: Origin, layout: ParameterLayout, snapshot: Snapshot) -> str:
    """Write a checkpoint below a job's directory and return the SHA-256 of its parameters.

    An existing intact checkpoint of the same step is kept, since it is equal. Raises OSError, and leaves no files, if
    the checkpoint cannot be written.
    """
    digest = params_sha256(layout, snapshot.parameters)
    files = {
        MODEL: _pack(layout, origin.inputs, {"": snapshot.parameters}),
        OPTIMIZER: _pack(layout, {}, {f"{slot}.": vector for slot, vector in snapshot.state.items()}),
    }
    header: dict[str, Any] = {
        "format": 1,
        "job": origin.job,
        "attempt": origin.attempt,
        "epoch": snapshot.epoch,
        "step": snapshot.step,
        "params_sha256": digest,
        "computation_sha256": origin.computation,
        "best": None,
        "patience": vars(snapshot.patience) if snapshot.patience else None,
        "epoch_sums": snapshot.epoch_sums,
        "milestones": list(snapshot.milestones.items()),
        "spec": origin.spec,
        "fingerprint": origin.fingerprint,
    }
    if snapshot.best is not None:
        files[BEST] = _pack(layout, origin.inputs, {"": snapshot.best.parameters})
        header["best"] = {name: value for name, value in vars(snapshot.best).items() if name != "parameters"}
        header["best"]["params_sha256"] = params_sha256(layout, snapshot.best.parameters)
    header["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    header["sha256"] = hashlib.sha256(_canonical(header)).hexdigest()
    files[HEADER] = (json.dumps(header, indent=2) + "\n").encode()

    place = place_of(directory, snapshot.step)
    partial = place.with_name(f".{place.name}.{origin.attempt}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        for name, content in files.items():
            write_durably(partial / name, content)
        sync_directory(partial)
        if place.exists() and not _is_same(place, header):
            set_aside(place)
        if not place.exists():
            partial.rename(place)
            sync_directory(place.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def _pack(layout: ParameterLayout, inputs: Mapping[str, Vector], vectors: Mapping[str, Vector]) -> bytes:
    tensors = {f"{PREPARATION}{name}": array for name, array in inputs.items()}
    for prefix, vector in vectors.items():
        tensors |= {f"{prefix}{name}": np.ascontiguousarray(view) for name, view in layout.views(vector).items()}
    return save(tensors)


def _is_same(place: Path, header: Mapping[str, Any]) -> bool:
    try:
        there = verify(place, header["job"], header["computation_sha256"])
        return bool(there["files"] == header["files"])
    except CheckpointError:
        return False


def verify(place: Path, job: str, computation: str) -> dict[str, Any]:
    """Return the header of a checkpoint that is intact and belongs to the job, else raise `CheckpointError`."""
    header = read_header(place, job, computation)
    for name, digest in header["files"].items():
        _read(place, name, digest)
    return header


def read_header(place: Path, job: str, computation: str) -> dict[str, Any]:
    """Like `verify`, but the files are not compared with their digests, which are the header's `files`."""
    header = _header(place)
    if header["job"] != job:
        raise CheckpointError(f"checkpoint {place.name} is of job {header['job']}, not of {job}")
    if header["computation_sha256"] != computation:
        raise CheckpointError(f"checkpoint {place.name} is of a job with another spec or other data")
    return header


def _header(place: Path) -> dict[str, Any]:
    try:
        header = json.loads((place / HEADER).read_bytes())
        checksum = header.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"checkpoint {place.name} has no readable header: {text_of(error)}") from error
    if hashlib.sha256(_canonical(header)).hexdigest() != checksum:
        raise CheckpointError(f"checkpoint {place.name} is damaged: {HEADER} does not have its checksum")
    return dict(header)


def _read(place: Path, name: str, digest: str) -> bytes:
    try:
        content = (place / name).read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {place.name} has no readable {name}: {text_of(error)}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"checkpoint {place.name} is damaged: {name} does not have its checksum")
    return content


def read_checkpoint(
    place: Path, job: str, computation: str, layout: ParameterLayout, slots: Sequence[str]
) -> tuple[Snapshot, dict[str, str]]:
    """Return the snapshot of a checkpoint and the fingerprint of the machine that took it. Raises `CheckpointError`."""
    header = verify(place, job, computation)

    def tensors(name: str) -> dict[str, Vector]:
        return load(_read(place, name, header["files"][name]))

    def parameters(name: str) -> Vector:
        return _vector(place, name, split_tensors(tensors(name))[0], layout)

    state = tensors(OPTIMIZER)
    best, patience = header["best"], header["patience"]
    if best is not None:
        best = BestSoFar(best["metric"], best["value"], best["step"], parameters(BEST))
    snapshot = Snapshot(
        epoch=header["epoch"],
        step=header["step"],
        parameters=parameters(MODEL),
        state={slot: _vector(place, f"{slot} in {OPTIMIZER}", _under(f"{slot}.", state), layout) for slot in slots},
        best=best,
        patience=PatienceSoFar(**patience) if patience is not None else None,
        epoch_sums=header.get("epoch_sums"),  # the first checkpoints did not have them
        milestones=dict(header["milestones"]),
    )
    return snapshot, header["fingerprint"]


def _under(prefix: str, tensors: Mapping[str, Vector]) -> dict[str, Vector]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _vector(place: Path, source: str, tensors: Mapping[str, Vector], layout: ParameterLayout) -> Vector:
    vector = aligned_zeros((layout.size,), np.float32)
    try:
        layout.load(tensors, vector)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {place.name} does not fit the model: {source}: {error}") from error
    return vector


def place_of(directory: Path, step: int) -> Path:
    """Where a job's directory has the checkpoint of a step."""
    return directory / CHECKPOINTS / f"{step:012d}"


def latest(directory: Path) -> Path | None:
    """The newest checkpoint below a job's directory, intact or not."""
    found = _checkpoints(directory)
    return found[-1] if found else None


def latest_whole(directory: Path, job: str, computation: str) -> tuple[Path | None, list[str]]:
    """The newest usable checkpoint, and why newer ones, which are set aside, are not usable."""
    refused: list[str] = []
    for place in reversed(_checkpoints(directory)):
        try:
            verify(place, job, computation)
        except CheckpointError as error:
            refused.append(str(error))
            set_aside(place)
        else:
            return place, refused
    return None, refused


def _checkpoints(directory: Path) -> list[Path]:
    """Checkpoints from the oldest to the newest."""
    if not (directory / CHECKPOINTS).is_dir():
        return []
    return sorted(place for place in (directory / CHECKPOINTS).iterdir() if NAME.fullmatch(place.name))


def set_aside(place: Path) -> None:
    """Rename a checkpoint that cannot be used; the last one of a step is kept for inspection."""
    refused = place.with_name(f"{place.name}.refused")
    shutil.rmtree(refused, ignore_errors=True)
    place.rename(refused)


def prune(directory: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and incomplete ones of killed processes."""
    for partial in (directory / CHECKPOINTS).glob(".*.partial"):
        shutil.rmtree(partial)
    for place in _checkpoints(directory)[:-keep]:
        # Renamed first, so that no reader sees it partly deleted.
        removed = place.with_name(f".{place.name}.partial")
        place.rename(removed)
        shutil.rmtree(removed)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
