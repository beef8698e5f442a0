"""Transactions of large sweeps: everything that takes time is done before, and few statements are left."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select

from service.jobs.actions import apply_action
from service.jobs.events import list_events
from service.jobs.repository import count_by_state, create_job, move, start_attempt
from service.jobs.schemas import HINGE_JOB
from service.jobs.states import Action, State
from service.store import database as database_module
from service.store.models import Job
from service.sweeps.repository import cancel_sweep
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")

BASE = {key: value for key, value in HINGE_JOB.items() if key not in {"name", "experiment"}}


def sweep(members: int) -> dict[str, Any]:
    rates = [0.001 + number / 1e6 for number in range(members)]
    return {"name": "many", "base": {**BASE, "labels": {"a": "b"}}, "over": {"grid": {"optimizer.lr": rates}}}


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements of transactions that write."""
    found: list[str] = []

    def note(connection: Connection, _cursor: object, text: str, *_: object) -> None:
        if connection.get_execution_options().get(database_module.IMMEDIATE):
            found.append(text)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_the_number_of_statements_does_not_depend_on_the_number_of_members(
    api: httpx.Client, database: Database
) -> None:
    numbers = []
    for members in (2, 50):
        with statements(database) as made:
            sweep_id = api.post("/v1/sweeps", json=sweep(members)).json()["id"]
        with statements(database) as cancelled:
            answer = api.post(f"/v1/sweeps/{sweep_id}/cancel")
        assert (answer.status_code, answer.json()["jobs"]) == (202, {"cancelled": members})
        numbers.append((len(made), len(cancelled)))
    assert numbers[0] == numbers[1]
    assert max(numbers[0]) < 15


def test_the_jobs_are_written_as_json_before_the_transaction(
    api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = []

    class Json:
        @staticmethod
        def dumps(value: Any) -> str:
            inside.append(value)
            return json.dumps(value)

    monkeypatch.setattr(database_module, "json", Json)
    document = sweep(20)
    assert api.post("/v1/sweeps", json=document).status_code == 201
    # The sweep's own spec, and the default of the column latest_metrics.
    assert [value["over"]["grid"] for value in inside if value] == [document["over"]["grid"]]
    with database.reading() as session:
        jobs = session.scalars(select(Job).order_by(Job.id)).all()
    assert [job.spec["optimizer"]["lr"] for job in jobs] == document["over"]["grid"]["optimizer.lr"]
    assert [job.overrides for job in jobs] == [
        {"optimizer.lr": rate} for rate in document["over"]["grid"]["optimizer.lr"]
    ]


def test_a_member_is_stored_like_a_job_without_a_sweep(api: httpx.Client, database: Database) -> None:
    sweep_id = api.post("/v1/sweeps", json=sweep(1) | {"experiment": "e"}).json()["id"]
    optimizer = {**BASE["optimizer"], "lr": 0.001}
    body = {**BASE, "optimizer": optimizer, "labels": {"a": "b"}, "name": "many-0", "experiment": "e"}
    alone = api.post("/v1/jobs", json=body).json()
    (member,) = api.get("/v1/jobs", params={"sweep": sweep_id, "label": "a:b"}).json()["data"]
    own = {"id", "created_at", "sweep"}
    assert {key: value for key, value in member.items() if key not in own} == {
        key: value for key, value in alone.items() if key not in own
    }
    histories = []
    for job_id in (member["id"], alone["id"]):
        with database.reading() as session:
            events, _ = list_events(session, job_id, limit=10)
        histories.append([(event.kind, event.from_state, event.to_state, event.reason, event.data) for event in events])
    assert histories[0] == histories[1] == [("state", None, State.QUEUED, None, None)]


def put_in(session: Session, job_id: str, state: State) -> None:
    """Bring a queued job to a state."""
    if state in {State.QUEUED, State.PAUSED}:
        if state is State.PAUSED:
            apply_action(session, job_id, Action.PAUSE)
        return
    attempt = start_attempt(session, job_id, "supervisor")
    move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
    if state is State.STARTING:
        return
    move(session, job_id, from_=State.STARTING, to=State.RUNNING, attempt=attempt)
    if state is not State.RUNNING:
        move(session, job_id, from_=State.RUNNING, to=state, attempt=attempt)


def test_members_in_every_state_are_cancelled_as_single_jobs_are(api: httpx.Client, database: Database) -> None:
    """The same moves, events and counts as those of `apply_action`, one job at a time."""
    states = [state for state in State if state is not State.CANCELLED] * 2
    sweep_id = api.post("/v1/sweeps", json=sweep(len(states))).json()["id"]
    with database.writing() as session:
        members = session.scalars(select(Job.id).where(Job.sweep_id == sweep_id).order_by(Job.id)).all()
        for job_id, state in zip(members, states, strict=True):
            put_in(session, job_id, state)
        single = []
        for state in states:
            job, _ = create_job(session, spec=hinge_job(), dataset={}, total_steps=1, body_sha256="b")
            put_in(session, job.id, state)
            single.append(job.id)
    with database.reading() as session:
        before = count_by_state(session)
    with database.writing() as session:
        for job_id, state in zip(single, states, strict=True):
            if state not in {State.SUCCEEDED, State.FAILED}:
                apply_action(session, job_id, Action.CANCEL)
    with database.reading() as session:
        between = count_by_state(session)
    with database.writing() as session:
        assert cancel_sweep(session, sweep_id)
    with database.writing() as session:
        assert not cancel_sweep(session, sweep_id)
    with database.reading() as session:
        after = count_by_state(session)
        for one, other in zip(members, single, strict=True):
            rows = session.get_one(Job, one), session.get_one(Job, other)
            assert rows[0].state == rows[1].state
            assert rows[0].reason == rows[1].reason
            assert (rows[0].finished_at is None) == (rows[1].finished_at is None)
            first, second = (
                [
                    (event.kind, event.from_state, event.to_state, event.reason)
                    for event in list_events(session, job, limit=10)[0]
                ]
                for job in (one, other)
            )
            assert first == second
    assert {state: after[state] - between[state] for state in State} == {
        state: between[state] - before[state] for state in State
    }
