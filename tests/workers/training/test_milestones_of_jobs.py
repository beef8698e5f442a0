"""Every run of a job passes the same milestones, with the same digests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.workers.fixtures.helpers import Outcome, assignment, blobs, completed, job, last_checkpoint, train
from workers.exchange.control import Command
from workers.job.computation import Computation
from workers.job.spec import JobSpec
from workers.record.checkpoint import Origin, params_sha256, read_checkpoint, write_checkpoint
from workers.record.events import Checkpointed, Progress
from workers.record.milestones import milestone_steps

if TYPE_CHECKING:
    from pathlib import Path

    from workers.training.assignment import Assignment

pytestmark = pytest.mark.usefixtures("no_fsync")

ROWS = 266  # training rows
STEPS = 6 * 20  # batches of 50 rows, 20 epochs


def milestones_of(*outcomes: Outcome) -> dict[int, str]:
    """The reported digests by step; one that is reported twice must be the same."""
    found: dict[int, str] = {}
    for outcome in outcomes:
        for event in outcome.events:
            if isinstance(event, Progress):
                assert all(step <= event.step for step in event.milestones)
                for step, digest in event.milestones.items():
                    assert found.setdefault(step, digest) == digest, step
    return found


def again(given: Assignment, directory: Path, workers: int = 1) -> Assignment:
    resources = given.spec["resources"] | {"workers": workers}
    return replace(given, spec={**given.spec, "resources": resources}, directory=directory)


def stopped(given: Assignment, after: int) -> Outcome:
    """Train up to a step and stop there with a checkpoint."""
    seen = 0

    def pending_command() -> Command:
        nonlocal seen
        seen += 1
        return Command.STOP | Command.CHECKPOINT if seen == after else Command.NONE

    return train(given, pending_command=pending_command)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assignment, dict[int, str]]:
    directory = tmp_path_factory.mktemp("whole")
    given = assignment(job(**{"training.epochs": 20}), blobs(directory), directory / "out")
    outcome = completed(given)
    found = milestones_of(outcome)
    assert list(found) == milestone_steps(STEPS)
    assert len(set(found.values())) == 32
    assert found[STEPS] == [event.params_sha256 for event in outcome.events if isinstance(event, Checkpointed)][-1]
    return given, found


def test_three_workers_pass_the_same_milestones(whole: tuple[Assignment, dict[int, str]], tmp_path: Path) -> None:
    given, expected = whole
    assert milestones_of(completed(again(given, tmp_path, workers=3))) == expected


def test_a_resumed_attempt_has_those_of_the_one_before(
    whole: tuple[Assignment, dict[int, str]], tmp_path: Path
) -> None:
    given, expected = whole
    given = again(given, tmp_path)
    before = milestones_of(stopped(given, 50))
    assert list(before) == [step for step in milestone_steps(STEPS) if step <= 50]
    outcome = train(given, checkpoint=last_checkpoint(tmp_path))
    assert milestones_of(outcome) == expected  # even if the events of the first attempt are lost


def test_a_job_that_stops_early_has_its_end(tmp_path: Path) -> None:
    early = {"metric": "val/loss", "patience": 1, "min_delta": 1e9}
    spec = job(**{"training.epochs": 20, "training.early_stopping": early})
    given = assignment(spec, blobs(tmp_path), tmp_path / "out")
    outcome = completed(given)
    end = max(event.step for event in outcome.events if isinstance(event, Progress))
    assert end == 12, "two epochs"
    assert list(milestones_of(outcome)) == sorted({*(step for step in milestone_steps(STEPS) if step <= end), end})


def test_a_changed_checkpoint_with_right_checksums_is_seen_at_the_next_milestone(
    whole: tuple[Assignment, dict[int, str]], tmp_path: Path
) -> None:
    given, expected = whole
    given = again(given, tmp_path)
    stopped(given, 50)
    tamper(given)
    found = milestones_of(train(given, checkpoint=last_checkpoint(tmp_path)))
    assert [step for step in expected if found[step] != expected[step]] == [step for step in expected if step > 50]


def tamper(given: Assignment) -> None:
    """Change one parameter in the newest checkpoint, with all checksums as they must be."""
    place = last_checkpoint(given.directory)
    layout = Computation.of(JobSpec.model_validate(given.spec), given.dataset, ROWS).layout
    snapshot, fingerprint = read_checkpoint(place, given.job, given.computation_sha256, layout, ["velocity"])
    snapshot.parameters[0] = np.nextafter(snapshot.parameters[0], np.float32(9))
    assert given.scaling is not None
    inputs = vars(given.scaling)
    origin = Origin(given.job, 1, given.spec, given.computation_sha256, inputs, fingerprint)
    assert write_checkpoint(given.directory, origin, layout, snapshot) == params_sha256(layout, snapshot.parameters)
