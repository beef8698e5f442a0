"""Training on a GPU, tested without one: a stand-in for CuPy computes with NumPy."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fixtures import cupy_stand_in
from tests.workers.fixtures.helpers import EVERYTHING, assignment, blobs, completed, job, last_checkpoint, train
from workers.exchange.control import Command
from workers.machine.device import DeviceError, Gpu
from workers.record.checkpoint import CheckpointError
from workers.record.events import Started
from workers.training.assignment import End

if TYPE_CHECKING:
    from pathlib import Path

    from workers.data.dataset import DatasetInfo

pytestmark = pytest.mark.usefixtures("stand_in")

ON_GPUS = {"resources.gpus_per_worker": 1}
JOBS: dict[str, dict[str, Any]] = {
    "hinge": {},
    "softmax": {"loss": {"type": "softmax"}, "optimizer": {"type": "adam", "lr": 0.01}, "training.batch_size": 37},
    "everything": EVERYTHING,
    "empty shards": {"training.batch_size": 29, "training.shards": 8},
}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_stand_in.cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupy_stand_in.cupyx)
    monkeypatch.setattr(cupy_stand_in, "LOCKED", [])
    monkeypatch.setattr(cupy_stand_in, "ON_THEIR_WAY", [])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return blobs(tmp_path_factory.mktemp("blobs"))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
def test_the_stand_in_gives_the_bits_of_the_host(
    changes: dict[str, Any], workers: int, dataset: DatasetInfo, tmp_path: Path
) -> None:
    where = {"resources.workers": workers, "training.shards": 4}
    on_host = completed(assignment(job(**{**where, **changes}), dataset, tmp_path / "host"))
    on_gpu = completed(assignment(job(**{**where, **changes, **ON_GPUS}), dataset, tmp_path / "gpu"))
    assert on_gpu.params_sha256 == on_host.params_sha256
    assert on_gpu.series == on_host.series
    assert cupy_stand_in.LOCKED
    assert not cupy_stand_in.ON_THEIR_WAY


def test_threads_are_used_only_for_the_update(
    monkeypatch: pytest.MonkeyPatch, dataset: DatasetInfo, tmp_path: Path
) -> None:
    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)
    spec = job(**{"training.shards": 4, "resources.cpus_per_worker": 2})
    on_host = completed(assignment(spec, dataset, tmp_path / "host"))
    spec["resources"]["gpus_per_worker"] = 1
    assert completed(assignment(spec, dataset, tmp_path / "gpu")).params_sha256 == on_host.params_sha256


def test_checkpoints_of_gpu_jobs_are_resumed_only_on_gpus(dataset: DatasetInfo, tmp_path: Path) -> None:
    whole = completed(assignment(job(**EVERYTHING, **ON_GPUS), dataset, tmp_path / "whole"))
    given = assignment(job(**EVERYTHING, **ON_GPUS), dataset, tmp_path / "parts")
    stopped = train(given, pending_command=lambda: Command.STOP | Command.CHECKPOINT)
    assert stopped.finished == [End.STOPPED]
    rest = train(given, checkpoint=last_checkpoint(given.directory))
    assert rest.finished == [End.COMPLETED]
    assert rest.params_sha256 == whole.params_sha256

    on_host = replace(assignment(job(**EVERYTHING), dataset, given.directory), job=given.job)
    (refused,) = train(on_host, checkpoint=last_checkpoint(given.directory)).finished
    assert isinstance(refused, CheckpointError)
    assert "of a job with another spec" in str(refused)


def test_a_job_reports_its_gpu(dataset: DatasetInfo, tmp_path: Path) -> None:
    outcome = completed(assignment(job(**ON_GPUS), dataset, tmp_path))
    (started,) = (event for event in outcome.events if isinstance(event, Started))
    assert {name: started.fingerprint[name] for name in ("gpu", "cuda", "cupy")} == {
        "gpu": "Stand-in",
        "cuda": "12060",
        "cupy": "13.3.0",
    }
    assert started.fingerprint["numpy"] == np.__version__


def test_a_change_during_a_copy_to_the_gpu_is_detected(
    monkeypatch: pytest.MonkeyPatch, dataset: DatasetInfo, tmp_path: Path
) -> None:
    """Shows that the tests above can fail: the stand-in detects that a copy is not waited for."""
    monkeypatch.setattr(Gpu, "_wait", lambda gpu: None)  # noqa: ARG005
    (finished,) = train(assignment(job(**ON_GPUS), dataset, tmp_path)).finished
    assert isinstance(finished, AssertionError)
    assert "on its way" in str(finished)


def test_a_gpu_worker_without_cupy_names_the_missing_package(
    monkeypatch: pytest.MonkeyPatch, dataset: DatasetInfo, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    (finished,) = train(assignment(job(**ON_GPUS), dataset, tmp_path)).finished
    assert isinstance(finished, DeviceError)
    assert "needs CuPy, the extra `cuda`" in str(finished)


def test_a_missing_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: int) -> None:
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    monkeypatch.setattr(cupy_stand_in.cupy.cuda.runtime, "getDeviceProperties", none)
    with pytest.raises(DeviceError, match="no usable GPU: cudaErrorNoDevice"):
        Gpu()
