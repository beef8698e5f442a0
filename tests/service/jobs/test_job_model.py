"""Jobs compared with a small model: any order of actions and events gives the rows that the model predicts."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from sqlalchemy import select

from service.errors import ConflictError
from service.jobs.actions import apply_action, change_resources
from service.jobs.events import list_events
from service.jobs.recording import end_attempt, record_events
from service.jobs.repository import count_by_state, create_job, move, start_attempt
from service.jobs.series.points import read_series
from service.jobs.states import Action, State
from service.store.models import Job
from service.store.rows import IdempotencyMismatchError
from tests.service.fixtures.support import hinge_job
from workers.job.spec import ResourcesSpec
from workers.record.events import Checkpointed, Ended, Event, Noted, Progress, Restarted, Series, Started

if TYPE_CHECKING:
    from service.store import Database

# Defined independently of the service, because the model must not depend on it.
LIVE = {"starting", "running", "pausing", "cancelling"}
ENDED = {"succeeded", "failed", "cancelled"}


@dataclass
class ModelJob:
    """The expected job. `log` has the events of the current attempt, `former` those of earlier attempts."""

    max_restarts: int
    workers: int = 2
    state: str = "queued"
    moves: int = 1
    restarts: int = 0
    step: int = 0
    digest: str | None = None
    points: dict[int, float] = field(default_factory=dict)
    violations: int = 0
    log: list[Event] = field(default_factory=list)
    former: list[list[Event]] = field(default_factory=list)
    attempt: int = 0

    def to(self, state: str) -> None:
        self.state, self.moves = state, self.moves + 1

    def apply(self, action: str) -> bool | None:
        """Whether an action changes the job, or None if it is rejected."""
        target = self.target(action)
        if target is None or target == self.state:
            return None if target is None else False
        self.to(target)
        return True

    def target(self, action: str) -> str | None:
        is_live = self.state in LIVE
        if action == "cancel":
            target = "cancelling" if is_live else "cancelled"
            rejected = self.state in ENDED - {"cancelled"}
        elif action == "pause":
            target = "pausing" if is_live else "paused"
            rejected = self.state in ENDED | {"cancelling"}
        else:
            target = "queued" if self.state == "paused" else self.state
            rejected = self.state in ENDED | {"cancelling", "pausing"}
        return None if rejected else target

    def record(self, event: Event) -> None:
        """Record a new event of the current attempt."""
        if self.state not in LIVE:
            return
        match event:
            case Started():
                if self.state == "starting":
                    self.to("running")
            case Progress():
                series = event.series["train/loss"]
                for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                    if self.points.setdefault(step, value) != value:
                        self.violations += 1
                self.step = max(self.step, event.step)
            case Checkpointed():
                self.digest = event.params_sha256
            case Restarted():
                self.restarts += 1
            case Ended():
                self.end(event.outcome)

    def end(self, outcome: str) -> None:
        if outcome in {"succeeded", "failed"}:
            self.to(outcome)
        elif self.state in {"cancelling", "pausing"}:
            self.to({"cancelling": "cancelled", "pausing": "paused"}[self.state])
        elif outcome == "lost" and self.restarts >= self.max_restarts:
            self.to("failed")
        else:
            self.restarts += outcome == "lost"
            self.to("queued")


STARTED = Started(step=0, workers=2, fingerprint={}, changed={})
OUTCOMES = ["succeeded", "failed", "cancelled", "paused", "lost", "interrupted"]


def progress(step: int, value: float) -> Progress:
    return Progress(epoch=0, step=step, series={"train/loss": Series(np.array([step]), np.array([value]), np.ones(1))})


events = st.one_of(
    st.just(STARTED),
    st.builds(progress, st.integers(1, 5), st.sampled_from([0.5, 0.5, 0.25])),
    st.builds(Checkpointed, st.just(1), st.sampled_from(["ab" * 32, "cd" * 32])),
    st.just(Restarted("worker_lost", "it was killed")),
    st.just(Noted("room", {"workers": 2})),
    st.builds(Ended, st.sampled_from(OUTCOMES), st.just("why")),
)


class JobMachine(RuleBasedStateMachine):
    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.model: dict[str, ModelJob] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.run = secrets.token_hex(8)  # examples share the database, but not the keys

    @rule(
        target=jobs,
        key=st.none() | st.sampled_from("xy"),
        body=st.sampled_from("ab"),
        max_restarts=st.integers(0, 2),
    )
    def create(self, key: str | None, body: str, max_restarts: int) -> Any:
        first = self.keys.get(key) if key is not None else None
        with self.database.writing() as session:
            try:
                job, created = create_job(
                    session,
                    spec=hinge_job(max_restarts=max_restarts),
                    dataset={},
                    total_steps=5,
                    body_sha256=body,
                    idempotency_key=None if key is None else f"{self.run} {key}",
                )
            except IdempotencyMismatchError:
                assert first is not None
                assert first[1] != body
                return multiple()
            job_id = job.id
        assert created == (first is None)
        if first is not None:
            assert first == (job_id, body)
            return multiple()
        assert job_id not in self.model
        self.model[job_id] = ModelJob(max_restarts)
        if key is not None:
            self.keys[key] = job_id, body
        return job_id

    @rule(job_id=jobs, action=st.sampled_from(Action))
    def apply(self, job_id: str, action: Action) -> None:
        expected = self.model[job_id].apply(action)
        with self.database.writing() as session:
            try:
                assert apply_action(session, job_id, action) is expected
            except ConflictError:
                assert expected is None

    @rule(job_id=jobs, workers=st.integers(1, 3))
    def resize(self, job_id: str, workers: int) -> None:
        model = self.model[job_id]
        with self.database.writing() as session:
            try:
                assert change_resources(session, job_id, ResourcesSpec(workers=workers)) == (model.workers != workers)
            except ConflictError:
                assert model.state in ENDED
            else:
                assert model.state not in ENDED
                model.workers = workers

    @rule(job_id=jobs)
    def launch(self, job_id: str) -> None:
        model = self.model[job_id]
        with self.database.writing() as session:
            moved = move(session, job_id, from_=State.QUEUED, to=State.STARTING)
            assert moved == (model.state == "queued")
            if not moved:
                return
            number = start_attempt(session, job_id, "supervisor")
        model.to("starting")
        model.attempt += 1
        assert number == model.attempt
        if number > 1:
            model.former.append(model.log)
        model.log = []

    @rule(job_id=jobs, new=st.lists(events, max_size=3), again=st.integers(0, 2))
    def report(self, job_id: str, new: list[Event], again: int) -> None:
        """The current attempt reports new events, and the last `again` ones again, as after a lost response."""
        model = self.model[job_id]
        if not model.attempt:
            return
        start = len(model.log)
        for event in new:
            if any(isinstance(earlier, Ended) for earlier in model.log):
                break  # no events follow the end
            if isinstance(event, Ended) and event.outcome == "succeeded" and STARTED not in model.log:
                continue  # an attempt starts before it succeeds
            if isinstance(event, Restarted) and model.restarts >= model.max_restarts:
                continue  # a supervisor does not exceed max_restarts
            model.log.append(event)
            model.record(event)
        numbered = list(enumerate(model.log, 1))[max(start - again, 0) :]
        with self.database.writing() as session:
            record_events(session, job_id, model.attempt, numbered)

    @rule(job_id=jobs, new=events)
    def report_late(self, job_id: str, new: Event) -> None:
        """An earlier attempt reports a new event."""
        model = self.model[job_id]
        for number, log in enumerate(model.former, 1):
            with self.database.writing() as session:
                record_events(session, job_id, number, [(len(log) + 1, new)])

    @rule(job_id=jobs, outcome=st.sampled_from(["lost", "interrupted"]))
    def lose(self, job_id: str, outcome: str) -> None:
        """The supervisor of the current attempt is lost."""
        model = self.model[job_id]
        if not model.attempt:
            return
        with self.database.writing() as session:
            end_attempt(session, job_id, model.attempt, Ended(outcome, "supervisor_lost"))
        if model.state in LIVE:
            model.end(outcome)
            model.log.append(Ended(outcome, "supervisor_lost"))

    @invariant()
    def rows_are_as_in_the_model(self) -> None:
        with self.database.reading() as session:
            for job_id, model in self.model.items():
                job = session.get(Job, job_id)
                assert job is not None
                values = job.state, job.attempt, job.restarts, job.step, job.params_sha256
                assert values == (model.state, model.attempt, model.restarts, model.step, model.digest)
                assert job.spec["resources"]["workers"] == model.workers
                assert (job.finished_at is not None) == (model.state in ENDED)
                assert [attempt.number for attempt in job.attempts] == list(range(1, model.attempt + 1))
                unfinished = [attempt.number for attempt in job.attempts if attempt.finished_at is None]
                assert unfinished == ([model.attempt] if model.state in LIVE else [])
                series = read_series(session, job_id).get("train/loss")
                assert (dict(zip(*series, strict=True)) if series else {}) == model.points
                assert series is None or len(series.steps) == len(model.points)
                self._check_history(list_events(session, job_id, limit=1000)[0], model)

    def _check_history(self, history: Any, model: ModelJob) -> None:
        kinds = Counter(event.kind for event in history)
        moves = [event for event in history if event.kind == "state"]
        assert moves[0].from_state is None
        assert all(before.to_state == after.from_state for before, after in pairwise(moves))
        assert moves[-1].to_state == model.state
        assert (kinds["state"], kinds["attempt_started"]) == (model.moves, model.attempt)
        assert (kinds["restarted"], kinds["determinism_violation"]) == (model.restarts, model.violations)
        assert kinds["attempt_finished"] == model.attempt - (model.state in LIVE)


@pytest.mark.timeout(240)
def test_jobs_behave_as_the_model(database: Database) -> None:
    run_state_machine_as_test(
        lambda: JobMachine(database),
        settings=hypothesis_settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    with database.reading() as session:
        states = Counter(session.scalars(select(Job.state)))
        assert Counter(count_by_state(session)) == states, "the counters equal the numbers of rows"
        assert ENDED & states.keys()
