from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import ParameterLayout, build_classifier, initialize
from tests.workers.helpers import assignment, blobs, completed, job
from workers.checkpoint import Position, params_sha256, write_checkpoint
from workers.model import layers_of
from workers.spec import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


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


@pytest.fixture
def spec() -> JobSpec:
    # Eleven layers, so that the order of names is not the order of layers: "10_linear" comes before "2_linear".
    layers = [{"type": "linear", "units": 5}] * 10 + [{"type": "relu"}, {"type": "linear", "units": 3}]
    return JobSpec.model_validate(job(**{"model.layers": layers}))


@pytest.fixture
def layout(spec: JobSpec) -> ParameterLayout:
    return ParameterLayout(build_classifier(layers_of(spec), 4).parameters())


def write(directory: Path, spec: JobSpec, layout: ParameterLayout, seed: int, *, step: int = 10) -> str:
    return write_checkpoint(
        directory,
        Position("job-1", 2, 5, step),
        layout=layout,
        parameters=initialize(layout, seed),
        state={"velocity": initialize(layout, seed + 1)},
        inputs={"mean": np.arange(4, dtype=np.float32)},
        spec=spec.model_dump(mode="json"),
        fingerprint={"numpy": "2"},
    )


def test_the_digest_is_of_the_tensors_in_order_of_name(spec: JobSpec, layout: ParameterLayout, tmp_path: Path) -> None:
    digest = write(tmp_path, spec, layout, seed=1)
    tensors = read_safetensors(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tensors.pop("inputs.mean"), [0, 1, 2, 3])
    assert set(tensors) == set(layout.names)
    assert sorted(tensors) != list(layout.names)
    assert sha256_in_order_of_name(tensors) == digest
    assert params_sha256(layout, initialize(layout, 1)) == digest


def test_one_bit_changes_the_digest_and_padding_does_not(layout: ParameterLayout) -> None:
    parameters = initialize(layout, 1)
    digest = params_sha256(layout, parameters)
    padding = np.ones(layout.size, bool)
    for name in layout.names:
        padding[layout.slice(name)] = False
    assert padding.any()
    parameters[padding] = 3
    assert params_sha256(layout, parameters) == digest
    parameters.view(np.int32)[layout.slice(layout.names[-1]).start] ^= 1
    assert params_sha256(layout, parameters) != digest


def test_the_header_names_its_files_and_its_place(spec: JobSpec, layout: ParameterLayout, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "directory"
    digest = write(directory, spec, layout, seed=1)
    header = json.loads((directory / "checkpoint.json").read_text())
    assert {name: header[name] for name in ("job", "attempt", "epoch", "step")} == {
        "job": "job-1",
        "attempt": 2,
        "epoch": 5,
        "step": 10,
    }
    assert header["params_sha256"] == digest
    assert JobSpec.model_validate(header["spec"]) == spec
    assert header["fingerprint"] == {"numpy": "2"}
    files = {path.name for path in directory.iterdir()} - {"checkpoint.json"}
    assert files == set(header["files"]) == {"model.safetensors", "optimizer.safetensors"}
    for name, expected in header["files"].items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == expected


def test_the_hash_of_a_spec_does_not_depend_on_the_order_of_its_fields(
    spec: JobSpec, layout: ParameterLayout, tmp_path: Path
) -> None:
    fields = spec.model_dump(mode="json")
    hashes = []
    for index, ordered in enumerate((fields, dict(reversed(fields.items())), fields | {"name": "another"})):
        directory = tmp_path / str(index)
        write_checkpoint(
            directory,
            Position("job-1", 1, 1, 1),
            layout=layout,
            parameters=initialize(layout, 0),
            state={},
            inputs={},
            spec=ordered,
            fingerprint={},
        )
        hashes.append(json.loads((directory / "checkpoint.json").read_text())["spec_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failing_write_leaves_no_checkpoint(
    spec: JobSpec, layout: ParameterLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Of the three files, the one whose content can not be flushed is not there, and so the header never is."""
    flushed = []
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if os.path.isfile(f"/proc/self/fd/{descriptor}"):  # noqa: PTH113
            flushed.append(descriptor)
            if len(flushed) == failing:
                raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, spec, layout, seed=1)
    assert len(flushed) == failing
    assert not (tmp_path / "checkpoint.json").exists()
    monkeypatch.undo()
    digest = write(tmp_path, spec, layout, seed=1)
    assert json.loads((tmp_path / "checkpoint.json").read_text())["params_sha256"] == digest
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_checkpoint_of_a_job(tmp_path: Path, momentum: float) -> None:
    dataset = blobs(tmp_path)
    spec = job(**{"optimizer.momentum": momentum, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path / "checkpoint")
    outcome = completed(given)
    model = read_safetensors(tmp_path / "checkpoint" / "model.safetensors")
    state = read_safetensors(tmp_path / "checkpoint" / "optimizer.safetensors")
    assert given.standardization is not None
    np.testing.assert_array_equal(model.pop("inputs.mean"), given.standardization.mean)
    np.testing.assert_array_equal(model.pop("inputs.deviation"), given.standardization.deviation)
    assert {name: tensor.shape for name, tensor in model.items()} == {
        "0_linear.weight": (20, 32),
        "0_linear.bias": (32,),
        "scores.weight": (32, 3),
        "scores.bias": (3,),
    }
    assert sha256_in_order_of_name(model) == outcome.params_sha256
    if momentum:
        assert {name: tensor.shape for name, tensor in state.items()} == {
            f"velocity.{name}": tensor.shape for name, tensor in model.items()
        }
        assert all(tensor.any() for tensor in state.values())
    else:
        assert state == {}
    header = json.loads((tmp_path / "checkpoint" / "checkpoint.json").read_text())
    assert (header["step"], header["epoch"], header["attempt"]) == (18, 3, 1)
    assert header["fingerprint"]["numpy"] == np.__version__
