"""The outcome of a job after an error of its workers, tested without a cluster."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    NodeDiedError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from core import InvalidIndexError
from tests.workers.fixtures.helpers import assignment, blobs, job
from workers.cluster.group import IdleWorkers, WorkerSilentError
from workers.cluster.placement import Placement
from workers.cluster.supervision import Supervision
from workers.data.dataset import DatasetError
from workers.exchange.messages import PeerSilentError
from workers.record.checkpoint import CheckpointError
from workers.training.trainer import NonFiniteStepError

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = "what it says"


@pytest.fixture
def supervision(tmp_path: Path) -> Supervision:
    given = assignment(job(), blobs(tmp_path), tmp_path / "out", prepared=False)
    return Supervision(given, IdleWorkers(), Placement(), None)


def from_a_worker(error: Exception) -> Exception:
    """The error as `ray.get` raises it: an instance of both classes, with the worker's traceback in its text."""
    return RayTaskError("train", "Traceback\nof the worker", error).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (DatasetError(MESSAGE), "failed", "dataset_unavailable"),
        (NonFiniteStepError(MESSAGE), "failed", "non_finite_loss"),
        (InvalidIndexError(MESSAGE), "failed", "invalid_index"),
        (MemoryError(MESSAGE), "failed", "out_of_memory"),
        (OSError(MESSAGE), "failed", "storage_error"),
        (PeerSilentError(MESSAGE), "lost", "worker_silent"),
        (CheckpointError(MESSAGE), "lost", "checkpoint_damaged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
@pytest.mark.parametrize("raised", [from_a_worker, lambda error: error], ids=["in a worker", "in the supervisor"])
def test_each_known_error_has_an_outcome_and_a_reason(
    supervision: Supervision, error: Exception, outcome: str, reason: str, raised: object
) -> None:
    assert callable(raised)
    end = supervision._meaning(raised(error))
    message = f"dataset 'blobs': {MESSAGE}" if isinstance(error, DatasetError) else MESSAGE
    assert (end.outcome, end.reason, end.message) == (outcome, reason, message)


@pytest.mark.parametrize("raised", [from_a_worker, lambda error: error], ids=["in a worker", "in the supervisor"])
def test_a_full_disk_is_named(supervision: Supervision, raised: object) -> None:
    assert callable(raised)
    end = supervision._meaning(raised(OSError(errno.ENOSPC, "a text with /a/path")))
    assert (end.outcome, end.reason) == ("failed", "disk_full")
    assert end.message == (
        "No space left on device: its checkpoints and history could not be written: make space, then submit it again"
    )


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        ActorUnavailableError("for a moment", None),
        # Its node was lost between the reservation and the start.
        ActorUnschedulableError("the node doesn't exist any more"),
        OutOfMemoryError("1 worker was killed due to the node running low on memory"),
        NodeDiedError("the node is dead"),
        WorkerCrashedError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_worker_that_is_gone_is_lost(supervision: Supervision, error: Exception) -> None:
    end = supervision._meaning(error)
    assert (end.outcome, end.reason) == ("lost", "worker_lost")
    assert "a worker process ended by itself" in end.message


def test_a_silent_worker_is_lost(supervision: Supervision) -> None:
    end = supervision._meaning(WorkerSilentError(MESSAGE))
    assert (end.outcome, end.reason, end.message) == ("lost", "worker_silent", MESSAGE)


def test_an_internal_error_reports_only_its_type(supervision: Supervision) -> None:
    end = supervision._meaning(from_a_worker(KeyError("a secret")))
    assert (end.outcome, end.reason) == ("failed", "internal_error")
    assert end.message == "an error inside Gradfleet: KeyError"
