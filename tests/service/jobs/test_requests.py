from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.errors import ConflictError, NotFoundError
from service.jobs.events import list_events
from service.jobs.repository import create_job
from service.jobs.requests import change_resources, make_request
from service.jobs.states import LIVE, MOVES, REQUESTS, TERMINAL, Request, State
from service.store.models import Job
from tests.service.fixtures.support import hinge_job
from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from service.store import Database

EXPECTED = {
    Request.CANCEL: {
        State.QUEUED: State.CANCELLED, State.STARTING: State.CANCELLING, State.RUNNING: State.CANCELLING,
        State.PAUSING: State.CANCELLING, State.PAUSED: State.CANCELLED, State.CANCELLING: State.CANCELLING,
        State.CANCELLED: State.CANCELLED,
    },
    Request.PAUSE: {
        State.QUEUED: State.PAUSED, State.STARTING: State.PAUSING, State.RUNNING: State.PAUSING,
        State.PAUSING: State.PAUSING, State.PAUSED: State.PAUSED,
    },
    Request.RESUME: {
        State.QUEUED: State.QUEUED, State.STARTING: State.STARTING, State.RUNNING: State.RUNNING,
        State.PAUSED: State.QUEUED,
    },
}  # fmt: skip


def put_in(session: Session, state: State) -> Job:
    job, _ = create_job(session, spec=hinge_job(), dataset={}, total_steps=1, body_sha256="b")
    job.state = state
    session.flush()
    return job


@pytest.mark.parametrize("request_", Request)
@pytest.mark.parametrize("state", State)
def test_requests_in_every_state(database: Database, request_: Request, state: State) -> None:
    with database.writing() as session:
        job = put_in(session, state)
        target = EXPECTED[request_].get(state)
        if target is None:
            with pytest.raises(ConflictError, match=f"Job {job.id} .*{state}"):
                make_request(session, job.id, request_)
        else:
            assert make_request(session, job.id, request_) == (target is not state)
            assert not make_request(session, job.id, request_), "it was done before"
        session.refresh(job)
        assert job.state == (target or state)
        events = list_events(session, job.id, limit=10)[0]
        assert [(event.from_state, event.to_state, event.reason) for event in events[1:]] == (
            [(state, target, f"{request_}_requested")] if target not in {None, state} else []
        )


def test_an_unknown_job_is_not_found(database: Database) -> None:
    with database.writing() as session:
        for request in Request:
            with pytest.raises(NotFoundError):
                make_request(session, "job_unknown", request)


def test_a_request_makes_moves_of_the_table_and_never_takes_a_job_from_its_attempt() -> None:
    for targets in REQUESTS.values():
        for state, target in targets.items():
            assert target is state or target in MOVES[state]
            assert state not in LIVE or target in LIVE


@pytest.mark.parametrize("state", State)
def test_resources_change_until_the_end(database: Database, state: State) -> None:
    with database.writing() as session:
        job = put_in(session, state)
        before = job.spec
        if state in TERMINAL:
            with pytest.raises(ConflictError, match=state):
                change_resources(session, job.id, ResourcesSpec(workers=4))
            return
        assert change_resources(session, job.id, ResourcesSpec(workers=4))
        assert not change_resources(session, job.id, ResourcesSpec(workers=4))
        changed = session.get(Job, job.id)
        assert changed is not None
        assert changed.spec == {**before, "resources": {"workers": 4, "cpus_per_worker": 1, "gpus_per_worker": 0}}
        (event,) = (event for event in list_events(session, job.id, limit=10)[0] if event.kind == "resources_changed")
        assert event.data == {"from": before["resources"], "to": changed.spec["resources"]}
