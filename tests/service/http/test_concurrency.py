"""Concurrent requests, and users and the scheduler that change the same jobs."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from service.errors import ConflictError
from service.jobs.actions import apply_action, change_resources
from service.jobs.events import list_events
from service.jobs.recording import end_attempt, record_events
from service.jobs.repository import create_job, move, start_attempt
from service.jobs.series.points import read_series
from service.jobs.states import LIVE, Action, State
from service.store.lease import FencedDatabase
from service.store.models import Job
from tests.service.fixtures.support import hinge_job
from tests.service.scheduling.test_leases import take
from workers.job.spec import ResourcesSpec
from workers.record.events import Checkpointed, Ended, Progress, Series, Started

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.store import Database, Transactions

POSTS = 20


@pytest.mark.usefixtures("digits")
def test_concurrent_posts_with_one_key_create_one_job(api: httpx.Client, notifications: list[str]) -> None:
    """Half of the requests have a different body. The body that is not stored first is rejected."""
    barrier = threading.Barrier(POSTS)

    def post(number: int) -> tuple[int, int, str | None]:
        body = hinge_job(name=f"body {number % 2}")
        with httpx.Client(base_url=api.base_url, timeout=30) as client:
            barrier.wait()
            answer = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"})
        return number % 2, answer.status_code, answer.json().get("id")

    with ThreadPoolExecutor(POSTS) as pool:
        answers = list(pool.map(post, range(POSTS)))
    (job,) = api.get("/v1/jobs").json()["data"]
    first = int(job["name"].removeprefix("body "))
    assert Counter(answers) == {
        (first, 201, job["id"]): 1,
        (first, 200, job["id"]): POSTS // 2 - 1,
        (1 - first, 422, None): POSTS // 2,
    }
    assert notifications == ["change"]


def user(database: Database, job_id: str, choice: random.Random) -> None:
    with database.writing() as session:
        try:
            if choice.random() < 0.3:
                change_resources(session, job_id, ResourcesSpec(workers=choice.randint(1, 3)))
            else:
                apply_action(session, job_id, choice.choice([Action.PAUSE, Action.RESUME, Action.RESUME]))
        except ConflictError:
            pass


def scheduler(database: Transactions, job_id: str, choice: random.Random) -> None:
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
    with database.writing() as session:
        if job.state == State.QUEUED:
            if move(session, job_id, from_=State.QUEUED, to=State.STARTING):
                start_attempt(session, job_id, "supervisor")
        elif job.state in LIVE and choice.random() < 0.2:
            end_attempt(session, job_id, job.attempt, Ended("interrupted", "service_restarted"))


def follower(database: Transactions, job_id: str, choice: random.Random) -> None:
    with database.reading() as session:
        job = session.get(Job, job_id)
        assert job is not None
    if not job.attempt:
        return
    step = choice.randint(1, 50)
    series = Series(np.arange(1, step + 1), np.arange(1, step + 1) / 7, np.ones(step))
    events: list[Any] = [
        Started(step=0, workers=2, fingerprint={}, changed={}),
        Progress(epoch=0, step=step, series={"train/loss": series}),
        Checkpointed(step, "ab" * 32),
        *([Ended("paused", "paused_by_user")] if choice.random() < 0.3 else []),
    ]
    with database.writing() as session:
        record_events(session, job_id, job.attempt, list(enumerate(events, choice.randint(1, 9))))


def test_users_and_a_leader_change_the_same_jobs(database: Database) -> None:
    """There are no deadlocks, and the history of every job is complete."""
    seed = random.randrange(2**32)
    with database.writing() as session:
        made = [
            create_job(session, spec=hinge_job(), dataset={}, total_steps=50, body_sha256="b")[0].id for _ in range(3)
        ]
    term = take(database)
    fenced = FencedDatabase(database, term)
    barrier = threading.Barrier(10)

    def work(number: int) -> None:
        choice = random.Random(f"{seed} {number}")
        barrier.wait()
        for _ in range(25):
            act: Callable[..., None] = [user, scheduler, follower][number % 3]
            act(database if act is user else fenced, choice.choice(made), choice)
            if number == 1:
                term.renew()

    with ThreadPoolExecutor(10) as pool:
        for result in [pool.submit(work, number) for number in range(10)]:
            result.result()  # raises an error after a deadlock
    with database.reading() as session:
        for job_id in made:
            job = session.get(Job, job_id)
            assert job is not None
            moves = [event for event in list_events(session, job_id, limit=10_000)[0] if event.kind == "state"]
            assert all(before.to_state == after.from_state for before, after in pairwise(moves)), f"seed {seed}"
            assert moves[-1].to_state == job.state, f"seed {seed}"
            assert len(job.attempts) == job.attempt, f"seed {seed}"
            unfinished = [attempt for attempt in job.attempts if attempt.finished_at is None]
            assert len(unfinished) == (job.state in LIVE), f"seed {seed}"
            for steps, values in read_series(session, job_id).values():
                assert steps == list(range(1, job.step + 1)), f"seed {seed}"
                assert values == [step / 7 for step in steps], f"seed {seed}"
