from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.workers.fixtures.helpers import (
    EPOCH_SERIES,
    EVERYTHING,
    STEP_SERIES,
    Outcome,
    Points,
    assignment,
    blobs,
    checkpoint_files,
    completed,
    job,
    last_checkpoint,
    points_of,
    train,
)
from workers.exchange.control import Command
from workers.record.checkpoint import latest, latest_whole
from workers.record.events import Checkpointed, Progress, Started
from workers.record.history_files import read_history
from workers.training.assignment import End

if TYPE_CHECKING:
    from workers.training.assignment import Assignment

pytestmark = pytest.mark.usefixtures("no_fsync")

Place = tuple[int, int]  # workers, CPUs per worker

JOBS: dict[str, dict[str, Any]] = {
    "hinge, momentum": {"loss": {"type": "hinge"}},
    "softmax, adam": {"loss": {"type": "softmax"}, "optimizer": {"type": "adam", "lr": 0.01}},
    "softmax, momentum, everything": {"loss": {"type": "softmax"}, **EVERYTHING},
    "hinge, adam, everything, stopped early": {
        "loss": {"type": "hinge"},
        **EVERYTHING,
        "optimizer": {"type": "adam", "lr": 0.05},
        "training.epochs": 10,
        "training.early_stopping": {"metric": "val/accuracy", "patience": 2},
        "checkpoints": {"best": "val/accuracy"},
    },
}


@dataclass
class Undisturbed:
    """A job and its result without stops."""

    given: Assignment
    outcome: Outcome
    files: list[bytes]

    @property
    def steps(self) -> int:
        return max(step for step, _ in self.outcome.series["train/loss"])

    @property
    def points(self) -> Points:
        return {name: dict(points) for name, points in self.outcome.series.items()}


@pytest.fixture(scope="module", params=JOBS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    directory = tmp_path_factory.mktemp("whole")
    given = assignment(job(**{"training.shards": 12, **JOBS[request.param]}), blobs(directory), directory / "out")
    return Undisturbed(given, completed(given), checkpoint_files(directory / "out"))


def at(given: Assignment, place: Place, directory: Path | None = None) -> Assignment:
    """The same job with other resources and, if given, another directory."""
    resources = given.spec["resources"] | {"workers": place[0], "cpus_per_worker": place[1]}
    return replace(given, spec={**given.spec, "resources": resources}, directory=directory or given.directory)


def resume(given: Assignment, stop_after: int | None = None) -> Outcome:
    """Train from the newest checkpoint to the end, or stop with a checkpoint after the step `stop_after`."""
    checkpoint, refused = latest_whole(given.directory, given.job, given.computation_sha256)
    assert refused == []
    next_step = int(checkpoint.name) if checkpoint else 0

    def pending_command() -> Command:
        nonlocal next_step
        next_step += 1
        return Command.STOP | Command.CHECKPOINT if next_step == stop_after else Command.NONE

    outcome = train(given, checkpoint=checkpoint, pending_command=pending_command)
    for finished in outcome.finished:
        if isinstance(finished, BaseException):
            raise finished
    assert len(set(outcome.finished)) == 1
    return outcome


def stopped_and_resumed(given: Assignment, stops: list[int], places: list[Place]) -> list[Outcome]:
    """Run attempts one after another, each with its own workers. Each gets the last step that was reported before."""
    outcomes, reported = [], 0
    for number, (stop, place) in enumerate(zip([*stops, None], places, strict=True), start=1):
        outcome = resume(replace(at(given, place), attempt=number, reported_step=reported), stop)
        outcomes.append(outcome)
        reported = max(event.step for event in outcome.events if isinstance(event, Progress))
        if outcome.finished[0] is not End.STOPPED:
            break
    return outcomes


PLACES = st.tuples(st.integers(1, 5), st.integers(1, 2))


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 27), max_size=3, unique=True).map(sorted),
    st.lists(PLACES, min_size=4, max_size=4),
)
# The end of the first epoch and the steps around it, for batches of 50 and 44; the last step; consecutive steps.
@example([6, 12], [(2, 1), (3, 1), (1, 2), (1, 1)])
@example([7, 14], [(5, 1), (1, 1), (2, 2), (1, 1)])
@example([5, 7, 8], [(1, 1), (4, 1), (5, 1), (3, 2)])
@example([18], [(3, 1), (1, 1), (1, 1), (1, 1)])
@example([21], [(3, 1), (2, 1), (1, 1), (1, 1)])
@example([1, 2, 3], [(1, 1), (2, 1), (3, 1), (4, 1)])
def test_no_bit_depends_on_stops_and_numbers_of_workers(
    whole: Undisturbed, stops: list[int], places: list[Place]
) -> None:
    with TemporaryDirectory() as folder:
        given = replace(whole.given, directory=Path(folder))
        outcomes = stopped_and_resumed(given, stops, places[: len(stops) + 1])
        expected_stops = [step for step in stops if step < whole.steps]
        assert [outcome.finished[0] for outcome in outcomes[:-1]] == [End.STOPPED] * len(expected_stops)
        assert outcomes[-1].finished[0] is whole.outcome.finished[0]
        assert outcomes[-1].params_sha256 == whole.outcome.params_sha256
        assert checkpoint_files(Path(folder)) == whole.files
        assert points_of([event for outcome in outcomes for event in outcome.events]) == whole.points
        # No point was reported twice.
        reported = sum(len(points) for outcome in outcomes for points in outcome.series.values())
        assert reported == sum(map(len, whole.points.values()))
        assert history_of(given) == whole.points


def history_of(given: Assignment) -> Points:
    """Points of the history on disk, without the metrics that measure time."""
    table = read_history(given.directory)
    found: Points = {}
    for row in table.to_pylist():
        for name in STEP_SERIES + EPOCH_SERIES:
            if row[name] is not None and not name.startswith("time/"):
                assert row["step"] not in found.setdefault(name, {})
                found[name][row["step"]] = row[name]
    return found


def test_each_attempt_reports_its_first_and_last_step(whole: Undisturbed, tmp_path: Path) -> None:
    outcomes = stopped_and_resumed(replace(whole.given, directory=tmp_path), [4, 9], [(1, 1), (2, 1), (1, 1)])
    for attempt, (outcome, first, last) in enumerate(zip(outcomes, (0, 4, 9), (4, 9, whole.steps), strict=True), 1):
        started = outcome.events[0]
        assert isinstance(started, Started)
        assert (started.step, started.workers, started.changed) == (first, 2 if attempt == 2 else 1, {})
        assert [event.step for event in outcome.events if isinstance(event, Checkpointed)] == [last]
        assert outcome.reporters == {0}


CHECKPOINTS: list[dict[str, Any]] = [
    {"every_steps": 1},
    {"every_steps": 5},
    {"every_epochs": 1},
    {"every_epochs": 2, "every_steps": 4},
    {"every_seconds": 1e-9},
]


@pytest.mark.parametrize("checkpoints", CHECKPOINTS, ids=str)
@pytest.mark.parametrize("place", [(1, 1), (3, 2)], ids=str)
def test_checkpoints_during_training_change_no_bit(
    whole: Undisturbed, tmp_path: Path, checkpoints: dict[str, Any], place: Place
) -> None:
    given = at(whole.given, place, tmp_path)
    given = replace(given, spec={**given.spec, "checkpoints": given.spec["checkpoints"] | checkpoints | {"keep": 1000}})
    assert given.computation_sha256 == whole.given.computation_sha256
    outcome = completed(given)
    assert outcome.series == whole.outcome.series
    assert outcome.params_sha256 == whole.outcome.params_sha256
    assert checkpoint_files(tmp_path) == whole.files
    steps = [event.step for event in outcome.events if isinstance(event, Checkpointed)]
    assert steps == [int(path.name) for path in sorted((tmp_path / "checkpoints").iterdir())]
    epoch = math.ceil(266 / given.spec["training"]["batch_size"])
    every = {checkpoints.get("every_steps", math.inf), epoch * checkpoints.get("every_epochs", math.inf)}
    if "every_seconds" in checkpoints:
        every = {1}
    due = {step for step in range(1, whole.steps + 1) for each in every if step % each == 0}
    assert steps == sorted(due | {whole.steps})


def test_the_result_is_the_same_from_every_checkpoint(whole: Undisturbed, tmp_path: Path) -> None:
    """As after a fault: the steps after the checkpoint are computed again, by another number of workers."""
    given = replace(whole.given, directory=tmp_path)
    checkpoints = given.spec["checkpoints"] | {"every_steps": 3, "keep": 1000}
    given = replace(given, spec={**given.spec, "checkpoints": checkpoints})
    completed(given)
    places = sorted((tmp_path / "checkpoints").iterdir())
    for number, checkpoint in enumerate(places):
        outcome = train(at(given, (1 + number % 5, 1)), checkpoint=checkpoint)
        assert outcome.finished[0] is whole.outcome.finished[0]
        assert outcome.params_sha256 == whole.outcome.params_sha256
        assert checkpoint_files(tmp_path) == whole.files
        assert points_of(outcome.events) == whole.points
        assert history_of(given) == whole.points
    assert len(places) >= 6


@pytest.mark.parametrize("reported", [0, 1, 5, 6, 7, 12, 13])
def test_points_that_were_not_confirmed_are_reported_again(whole: Undisturbed, tmp_path: Path, reported: int) -> None:
    """Points up to the checkpoint come from the history; later points are computed again."""
    given = replace(whole.given, directory=tmp_path)
    resume(given, 9)
    outcome = resume(replace(at(given, (2, 1)), reported_step=reported))
    expected = {
        name: {step: value for step, value in points.items() if step > min(reported, 9)}
        for name, points in whole.points.items()
    }
    assert points_of(outcome.events) == expected
    steps = [step for step, _ in outcome.series["train/loss"]]
    assert steps == sorted(set(steps))
    started, first = outcome.events[:2]
    assert isinstance(started, Started)
    assert isinstance(first, Progress)
    if reported < 9:
        assert (first.step, first.epoch) == (9, 9 // math.ceil(266 / given.spec["training"]["batch_size"]))


def test_resuming_from_the_last_step_only_reports_the_end(whole: Undisturbed, tmp_path: Path) -> None:
    """As if the first attempt was killed before it reported the end: only the report is missing."""
    given = replace(whole.given, directory=tmp_path)
    resume(given)
    outcome = resume(replace(at(given, (3, 1)), reported_step=whole.steps))
    assert outcome.finished == [whole.outcome.finished[0]] * 3
    assert outcome.series == {}
    assert outcome.params_sha256 == whole.outcome.params_sha256
    assert latest(tmp_path) == last_checkpoint(tmp_path)
    assert checkpoint_files(tmp_path) == whole.files


@pytest.mark.parametrize("until", [1, 6, 7, 12])
def test_an_attempt_ends_exactly_at_its_assigned_step(whole: Undisturbed, tmp_path: Path, until: int) -> None:
    given = replace(at(whole.given, (2, 1)), directory=tmp_path, until_step=until)
    first = resume(given)
    assert first.finished == [End.REACHED] * 2
    assert last_checkpoint(tmp_path).name == f"{until:012d}"
    # As if the first attempt was killed before it reported the step: only the report is missing.
    again = resume(replace(at(given, (3, 1)), reported_step=until))
    assert again.finished == [End.REACHED] * 3
    assert again.series == {}
    last = resume(replace(given, reported_step=until, until_step=whole.steps))
    assert last.finished[0] is whole.outcome.finished[0], "a job that is complete does not end with `REACHED`"
    assert points_of([*first.events, *last.events]) == whole.points
    assert checkpoint_files(tmp_path) == whole.files


def test_differences_between_machines_are_reported(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(whole.given, directory=tmp_path)
    monkeypatch.setattr("workers.training.trainer.fingerprint", lambda: {"numpy": "1.0", "machine": "a"})
    resume(given, 4)
    monkeypatch.setattr("workers.training.trainer.fingerprint", lambda: {"numpy": "2.0", "machine": "a"})
    started = resume(given).events[0]
    assert isinstance(started, Started)
    assert started.changed == {"numpy": "1.0 -> 2.0"}
