"""Intervals of a job are trained again, each from a checkpoint of that job."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.workers.fixtures.helpers import EVERYTHING, Outcome, assignment, blobs, completed, job, points_of, train
from workers.job.computation import Computation
from workers.job.spec import JobSpec
from workers.record.checkpoint import CheckpointError, Origin, place_of, read_checkpoint, state_sha256, write_checkpoint
from workers.record.events import Checkpointed, Noted, Progress, Started
from workers.record.milestones import milestone_steps
from workers.training.assignment import Assignment, End, Replay

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_fsync")

STEPS = 60  # five epochs of twelve steps
STARTS = range(0, STEPS, 10)  # of the intervals: within epochs and at their ends
CHECKPOINTS = {"every_steps": 10, "keep": 100}


def states_of(outcome: Outcome) -> dict[int, str | None]:
    return {event.step: event.state_sha256 for event in outcome.events if isinstance(event, Checkpointed)}


def milestones_of(outcome: Outcome) -> dict[int, str]:
    events = [event for event in outcome.events if isinstance(event, Progress)]
    return {step: digest for event in events for step, digest in event.milestones.items()}


def trained(spec: dict[str, Any], directory: Path) -> tuple[Assignment, Outcome]:
    given = assignment(spec, blobs(directory, rows=660), directory / "out")
    return given, completed(given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assignment, Outcome]:
    changes = EVERYTHING | {"training.epochs": 5, "checkpoints": CHECKPOINTS}
    given, outcome = trained(job(**changes), tmp_path_factory.mktemp("whole"))
    assert list(states_of(outcome)) == [*range(10, STEPS + 1, 10)]
    assert len(set(states_of(outcome).values())) == 6
    return given, outcome


def replay_of(given: Assignment, outcome: Outcome, start: int, directory: Path, workers: int = 1) -> Assignment:
    """The interval of ten steps from `start` on, as another job with other checkpoints."""
    resources = given.spec["resources"] | {"workers": workers}
    checkpoints = given.spec["checkpoints"] | {"every_steps": None, "keep": 2}
    return replace(
        given,
        job="a verification",
        spec={**given.spec, "resources": resources, "checkpoints": checkpoints},
        directory=directory,
        reported_step=start,
        until_step=start + 10,
        replay=Replay(
            given.job,
            given.computation_sha256,
            place_of(given.directory, start) if start else None,
            states_of(outcome).get(start),
        ),
    )


def replayed(again: Assignment) -> Outcome:
    return train(again, checkpoint=again.replay and again.replay.checkpoint)


@pytest.mark.parametrize("workers", [1, 3])
def test_each_interval_ends_with_the_state_of_the_whole_run(
    whole: tuple[Assignment, Outcome], tmp_path: Path, workers: int
) -> None:
    points: dict[str, dict[int, float]] = {}
    for start in STARTS:
        outcome = replayed(replay_of(*whole, start, tmp_path, workers))
        end = start + 10
        assert set(outcome.finished) == {End.COMPLETED if end == STEPS else End.REACHED}
        assert states_of(outcome) == {end: states_of(whole[1])[end]}
        inside = [step for step in milestone_steps(STEPS) if start < step <= end]
        assert milestones_of(outcome) == {step: milestones_of(whole[1])[step] for step in inside}
        assert [event.step for event in outcome.events if isinstance(event, Started)] == [start]
        assert not [event for event in outcome.events if isinstance(event, Noted)]
        for name, found in points_of(outcome.events).items():
            assert all(start < step <= end for step in found)
            points.setdefault(name, {}).update(found)
    assert points == points_of(whole[1].events), "means of epochs too, which begin in the interval before"


def test_early_stopping_ends_an_interval_where_it_ended_the_job(tmp_path: Path) -> None:
    early = {"metric": "val/loss", "patience": 2, "min_delta": 1e9}
    changes = {"training.epochs": 9, "training.early_stopping": early, "checkpoints": CHECKPOINTS}
    given, outcome = trained(job(**changes), tmp_path)
    (*_, before, end) = states_of(outcome)
    assert end < 9 * 11
    again = replace(replay_of(given, outcome, before, tmp_path / "again"), until_step=end + 1)
    outcome_again = replayed(again)
    assert set(outcome_again.finished) == {End.EARLY}
    assert states_of(outcome_again) == {end: states_of(outcome)[end]}


def test_the_digest_is_over_the_whole_state(whole: tuple[Assignment, Outcome]) -> None:
    given, outcome = whole
    computation = Computation.of(JobSpec.model_validate(given.spec), given.dataset, 528)
    place = place_of(given.directory, 20)
    layout, slots = computation.layout, computation.optimizer.slots
    snapshot, _ = read_checkpoint(place, given.job, given.computation_sha256, layout, slots)
    assert state_sha256(layout, snapshot) == states_of(outcome)[20]
    assert snapshot.best is not None
    other = snapshot.parameters.copy()
    other[0] = np.nextafter(other[0], np.float32(9))
    assert snapshot.epoch_sums, "step 20 is within an epoch"
    changes: list[dict[str, Any]] = [
        {"step": 21},
        {"parameters": other},
        {"state": {"velocity": other}},
        {"best": replace(snapshot.best, parameters=other)},
        {"best": replace(snapshot.best, step=1)},
        {"best": None},
        {"epoch_sums": [*snapshot.epoch_sums[:-1], -1.0]},
        {"epoch_sums": None},
    ]
    digests = {state_sha256(layout, replace(snapshot, **change)) for change in changes}
    assert len(digests | {states_of(outcome)[20]}) == len(changes) + 1
    # A run that passes the same state has other milestones before it only if it is another run.
    assert state_sha256(layout, replace(snapshot, milestones={})) == states_of(outcome)[20]


def test_a_changed_checkpoint_is_refused_before_it_is_replayed(
    whole: tuple[Assignment, Outcome], tmp_path: Path
) -> None:
    given, outcome = whole
    again = replay_of(given, outcome, 20, tmp_path)
    computation = Computation.of(JobSpec.model_validate(given.spec), given.dataset, 528)
    layout, slots = computation.layout, computation.optimizer.slots
    place = place_of(given.directory, 20)
    snapshot, fingerprint = read_checkpoint(place, given.job, given.computation_sha256, layout, slots)
    snapshot.state["velocity"][0] += 1
    origin = Origin(given.job, 1, given.spec, given.computation_sha256, given.input_tensors, fingerprint)
    write_checkpoint(tmp_path, origin, layout, snapshot)  # all checksums of its own are right
    changed = place_of(tmp_path, 20)
    assert again.replay is not None
    outcome = train(replace(again, replay=replace(again.replay, checkpoint=changed)), checkpoint=changed)
    (error,) = outcome.finished
    assert isinstance(error, CheckpointError)
    assert "checkpoint 000000000020 is not the one that was certified" in str(error)
    assert outcome.events == []
