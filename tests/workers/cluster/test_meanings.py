"""What an error of the workers means for the job, without a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    RayTaskError,
)

from tests.workers.fixtures.helpers import assignment, blobs, job
from workers.cluster.group import IdleWorkers, WorkerSilentError
from workers.cluster.placement import Placement
from workers.cluster.supervision import Supervision
from workers.data.dataset import DatasetError
from workers.exchange.zeromq import PeerSilentError
from workers.record.checkpoint import CheckpointError
from workers.training.trainer import PoisonedStepError

if TYPE_CHECKING:
    from pathlib import Path

SAID = "what it says"


@pytest.fixture
def supervision(tmp_path: Path) -> Supervision:
    given = assignment(job(), blobs(tmp_path), tmp_path / "out", prepared=False)
    return Supervision(given, IdleWorkers(), Placement(), None)


def from_a_worker(error: Exception) -> Exception:
    """As Ray raises it where it was waited for: an error of both kinds, with the worker's traceback in its text."""
    return RayTaskError("train", "Traceback\nof the worker", error).as_instanceof_cause()


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (DatasetError(SAID), "failed", "dataset_unavailable"),
        (PoisonedStepError(SAID), "failed", "non_finite_loss"),
        (MemoryError(SAID), "failed", "out_of_memory"),
        (OSError(SAID), "failed", "storage_error"),
        (PeerSilentError(SAID), "lost", "worker_silent"),
        (CheckpointError(SAID), "lost", "checkpoint_damaged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
@pytest.mark.parametrize("raised", [from_a_worker, lambda error: error], ids=["by a worker", "here"])
def test_an_error_with_a_meaning(
    supervision: Supervision, error: Exception, outcome: str, reason: str, raised: object
) -> None:
    assert callable(raised)
    end = supervision._meaning(raised(error))
    assert (end.outcome, end.reason, end.message) == (outcome, reason, SAID)


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        ActorUnavailableError("for a moment", None),
        # Its node has gone between the reservation and the start.
        ActorUnschedulableError("the node doesn't exist any more"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_worker_that_is_gone_is_lost(supervision: Supervision, error: Exception) -> None:
    end = supervision._meaning(error)
    assert (end.outcome, end.reason) == ("lost", "worker_lost")
    assert "a worker process ended by itself" in end.message


def test_a_silent_worker_is_lost(supervision: Supervision) -> None:
    end = supervision._meaning(WorkerSilentError(SAID))
    assert (end.outcome, end.reason, end.message) == ("lost", "worker_silent", SAID)


def test_a_mistake_of_ours_says_no_more_than_its_kind(supervision: Supervision) -> None:
    end = supervision._meaning(from_a_worker(KeyError("a secret")))
    assert (end.outcome, end.reason) == ("failed", "internal_error")
    assert end.message == "an error inside Gradfleet: KeyError"
