from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import initialize
from tests.workers.fixtures.checkpoints import (
    COMPUTATION,
    FILES,
    JOB,
    LAYOUT,
    SPEC,
    header_of,
    place_of,
    read_safetensors,
    sha256_in_order_of_name,
    snapshot,
    write,
)
from tests.workers.fixtures.helpers import assignment, blobs, completed, job, last_checkpoint
from workers.job.spec import JobSpec
from workers.record.checkpoint import (
    CheckpointError,
    computation_sha256,
    params_sha256,
    read_checkpoint,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_the_digest_is_of_the_tensors_in_order_of_name(tmp_path: Path) -> None:
    digest = write(tmp_path, 10)
    tensors = read_safetensors(place_of(tmp_path, 10) / "model.safetensors")
    np.testing.assert_array_equal(tensors.pop("inputs.mean"), [0, 1, 2, 3])
    assert set(tensors) == set(LAYOUT.names)
    assert sorted(tensors) != list(LAYOUT.names)
    assert sha256_in_order_of_name(tensors) == digest
    assert params_sha256(LAYOUT, initialize(LAYOUT, 10)) == digest


def test_one_bit_changes_the_digest_and_padding_does_not() -> None:
    parameters = initialize(LAYOUT, 1)
    digest = params_sha256(LAYOUT, parameters)
    padding = np.ones(LAYOUT.size, bool)
    for name in LAYOUT.names:
        padding[LAYOUT.slice(name)] = False
    assert padding.any()
    parameters[padding] = 3
    assert params_sha256(LAYOUT, parameters) == digest
    parameters.view(np.int32)[LAYOUT.slice(LAYOUT.names[-1]).start] ^= 1
    assert params_sha256(LAYOUT, parameters) != digest


def test_the_header_names_its_files_and_its_place(tmp_path: Path) -> None:
    digest = write(tmp_path / "new" / "directory", 10)
    place = place_of(tmp_path / "new" / "directory", 10)
    header = header_of(place)
    expected = {"format": 1, "job": JOB, "attempt": 2, "epoch": 3, "step": 10, "params_sha256": digest}
    assert {name: header[name] for name in expected} == expected
    assert header["computation_sha256"] == COMPUTATION
    assert JobSpec.model_validate(header["spec"]) == SPEC
    assert header["fingerprint"] == {"numpy": "2"}
    assert header["patience"] == {"value": 0.5, "stale_epochs": 2}
    best = read_safetensors(place / "best.safetensors")
    np.testing.assert_array_equal(best.pop("inputs.mean"), [0, 1, 2, 3])
    digest = sha256_in_order_of_name(best)
    assert header["best"] == {"metric": "val/loss", "value": 0.1 + 0.2, "step": 9, "params_sha256": digest}
    assert digest == params_sha256(LAYOUT, initialize(LAYOUT, 12))
    assert sorted(path.name for path in place.iterdir()) == list(FILES)
    assert sorted(header["files"]) == sorted(set(FILES) - {"checkpoint.json"})
    for name, checksum in header["files"].items():
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == checksum
    checksum = header.pop("sha256")
    assert hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode()).hexdigest() == checksum


@pytest.mark.parametrize("best", [True, False])
def test_reading_returns_what_was_written(tmp_path: Path, best: bool) -> None:
    write(tmp_path, 10, best=best)
    read, fingerprint = read_checkpoint(place_of(tmp_path, 10), JOB, COMPUTATION, LAYOUT, ["velocity"])
    expected = snapshot(10, best=best)
    assert (read.epoch, read.step, read.patience) == (expected.epoch, expected.step, expected.patience)
    views, expected_views = LAYOUT.views(read.parameters), LAYOUT.views(expected.parameters)
    states, expected_states = LAYOUT.views(read.state["velocity"]), LAYOUT.views(expected.state["velocity"])
    for name in LAYOUT.names:
        assert views[name].tobytes() == expected_views[name].tobytes()
        assert states[name].tobytes() == expected_states[name].tobytes()
    assert (read.best is None) == (expected.best is None)
    if read.best is not None and expected.best is not None:
        assert replace(read.best, parameters=None) == replace(expected.best, parameters=None)
        assert params_sha256(LAYOUT, read.best.parameters) == params_sha256(LAYOUT, expected.best.parameters)
    assert fingerprint == {"numpy": "2"}


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 10)
    place = place_of(tmp_path, 10)
    assert verify(place, JOB, COMPUTATION)["step"] == 10
    with pytest.raises(CheckpointError, match="of job job-1, not of job-2"):
        verify(place, "job-2", COMPUTATION)
    other_data = computation_sha256(SPEC.model_dump(mode="json"), "1" * 64)
    with pytest.raises(CheckpointError, match="another spec or other data"):
        verify(place, JOB, other_data)


def test_a_model_of_another_shape_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 10)
    with pytest.raises(CheckpointError, match=r"momentum in optimizer.*0_linear\.weight is missing"):
        read_checkpoint(place_of(tmp_path, 10), JOB, COMPUTATION, LAYOUT, ["momentum"])


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all single values in a document."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))
    else:
        yield path


def changed(value: Any, path: tuple[str | int, ...]) -> Any:
    if not path:
        return [value, "changed"]
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:])
    return copy


IRRELEVANT = {"name", "experiment", "resources", "checkpoints", "max_restarts"}
WITH_EVERYTHING = JobSpec.model_validate(
    job(
        **{
            "training.clipping": {"type": "norm", "limit": 1.0},
            "training.early_stopping": {},
            "model.layers": [{"type": "linear", "units": 4, "name": "a"}, {"type": "linear", "units": 3}],
        }
    )
).model_dump(mode="json")


@pytest.mark.parametrize("path", list(leaves(WITH_EVERYTHING)), ids=lambda path: ".".join(map(str, path)))
def test_fields_on_which_a_result_depends(path: tuple[str | int, ...]) -> None:
    """Every field of the spec except for names, resources other than GPUs, checkpoints and restarts."""
    before = computation_sha256(WITH_EVERYTHING, "0" * 64)
    after = computation_sha256(changed(WITH_EVERYTHING, path), "0" * 64)
    assert (before == after) == (path[0] in IRRELEVANT and path[-1] != "gpus_per_worker")


def reordered(value: Any) -> Any:
    """The same document with the fields of every part in another order."""
    if isinstance(value, dict):
        return {name: reordered(each) for name, each in reversed(value.items())}
    return [reordered(each) for each in value] if isinstance(value, list) else value


def test_a_result_depends_on_the_data_and_not_on_the_order_of_fields() -> None:
    before = computation_sha256(WITH_EVERYTHING, "0" * 64)
    assert computation_sha256(WITH_EVERYTHING, "0" * 63 + "1") != before
    other = reordered(WITH_EVERYTHING)
    assert list(other) != list(WITH_EVERYTHING)
    assert computation_sha256(other, "0" * 64) == before


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_checkpoint_of_a_job(tmp_path: Path, momentum: float) -> None:
    dataset = blobs(tmp_path)
    spec = job(**{"optimizer.momentum": momentum, "resources.workers": 2})
    given = assignment(spec, dataset, tmp_path / "out")
    outcome = completed(given)
    place = last_checkpoint(tmp_path / "out")
    model = read_safetensors(place / "model.safetensors")
    state = read_safetensors(place / "optimizer.safetensors")
    assert given.scaling is not None
    np.testing.assert_array_equal(model.pop("inputs.mean"), given.scaling.mean)
    np.testing.assert_array_equal(model.pop("inputs.deviation"), given.scaling.deviation)
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
    header = header_of(place)
    assert (header["step"], header["epoch"], header["attempt"]) == (18, 3, 1)
    assert (header["job"], header["computation_sha256"]) == (given.job, given.computation_sha256)
    assert header["fingerprint"]["numpy"] == np.__version__
