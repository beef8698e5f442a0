from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from core import initialize
from tests.workers.fixtures.checkpoints import LAYOUT
from workers.record import milestones as module
from workers.record.checkpoint import params_sha256
from workers.record.milestones import Milestones, milestone_steps

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_short_jobs_have_a_milestone_at_each_step_and_long_ones_32() -> None:
    assert milestone_steps(1) == [1]
    assert milestone_steps(32) == list(range(1, 33))
    assert milestone_steps(64) == list(range(2, 65, 2))
    for total in (*range(1, 200), 10**6 + 7, 10**12 + 1):
        steps = milestone_steps(total)
        assert len(steps) == min(total, 32)
        assert steps == sorted(set(steps))
        assert steps[0] >= 1
        assert steps[-1] == total
        gaps = np.diff([0, *steps])
        assert gaps.max() - gaps.min() <= 1


@pytest.fixture
def milestones() -> Iterator[Milestones]:
    made = Milestones(LAYOUT, 64)
    made.restore({2: "a"})
    yield made
    made.close()


def test_only_milestones_and_the_last_step_get_a_digest(milestones: Milestones) -> None:
    vectors = {step: initialize(LAYOUT, step) for step in (3, 4, 5)}
    for step, vector in vectors.items():
        milestones.visit(step, vector, last=step == 5)
    expected = {step: params_sha256(LAYOUT, vectors[step]) for step in (4, 5)}
    assert milestones.settle() == {2: "a", **expected}
    assert milestones.unreported() == {2: "a", **expected}
    assert milestones.unreported() == {}


def test_the_digest_is_of_the_parameters_at_the_milestone(
    milestones: Milestones, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training changes the parameters while the digest is computed, and does not wait for it to report."""
    go_on = threading.Event()

    def slow(*given: Any) -> str:
        assert go_on.wait(30)
        return params_sha256(*given)

    monkeypatch.setattr(module, "params_sha256", slow)
    vector = initialize(LAYOUT, 1)
    before = vector.copy()
    milestones.visit(4, vector, last=False)
    vector[:] = 7
    assert milestones.unreported() == {2: "a"}
    go_on.set()
    tensors = sorted(LAYOUT.views(before).items())
    assert milestones.settle()[4] == hashlib.sha256(b"".join(tensor.tobytes() for _, tensor in tensors)).hexdigest()
    assert list(milestones.unreported()) == [4]
