from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.errors import ConflictError, NotFoundError
from service.jobs.actions import apply_action, change_resources
from service.jobs.events import list_events
from service.jobs.repository import create_job
from service.jobs.states import ACTIONS, LIVE, MOVES, TERMINAL, Action, State
from service.store.models import Job
from tests.service.fixtures.support import hinge_job
from workers.job.spec import ResourcesSpec

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from service.store import Database

EXPECTED = {
    Action.CANCEL: {
        State.QUEUED: State.CANCELLED, State.STARTING: State.CANCELLING, State.RUNNING: State.CANCELLING,
        State.PAUSING: State.CANCELLING, State.PAUSED: State.CANCELLED, State.CANCELLING: State.CANCELLING,
        State.CANCELLED: State.CANCELLED,
    },
    Action.PAUSE: {
        State.QUEUED: State.PAUSED, State.STARTING: State.PAUSING, State.RUNNING: State.PAUSING,
        State.PAUSING: State.PAUSING, State.PAUSED: State.PAUSED,
    },
    Action.RESUME: {
        State.QUEUED: State.QUEUED, State.STARTING: State.STARTING, State.RUNNING: State.RUNNING,
        State.PAUSED: State.QUEUED,
    },
}  # fmt: skip


def add_job_in(session: Session, state: State) -> Job:
    job, _ = create_job(session, spec=hinge_job(), dataset={}, total_steps=1, body_sha256="b")
    job.state = state
    session.flush()
    return job


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("state", State)
def test_actions_in_every_state(database: Database, action: Action, state: State) -> None:
    with database.writing() as session:
        job = add_job_in(session, state)
        target = EXPECTED[action].get(state)
        if target is None:
            with pytest.raises(ConflictError, match=f"Job {job.id} .*{state}"):
                apply_action(session, job.id, action)
        else:
            assert apply_action(session, job.id, action) == (target is not state)
            assert not apply_action(session, job.id, action), "a repeated action changes nothing"
        session.refresh(job)
        assert job.state == (target or state)
        events = list_events(session, job.id, limit=10)[0]
        assert [(event.from_state, event.to_state, event.reason) for event in events[1:]] == (
            [(state, target, f"{action}_requested")] if target not in {None, state} else []
        )


def test_an_unknown_job_is_not_found(database: Database) -> None:
    with database.writing() as session:
        for action in Action:
            with pytest.raises(NotFoundError):
                apply_action(session, "job_unknown", action)


def test_actions_make_allowed_moves_and_keep_live_jobs_live() -> None:
    for targets in ACTIONS.values():
        for state, target in targets.items():
            assert target is state or target in MOVES[state]
            assert state not in LIVE or target in LIVE


@pytest.mark.parametrize("state", State)
def test_resources_can_be_changed_until_the_job_ends(database: Database, state: State) -> None:
    with database.writing() as session:
        job = add_job_in(session, state)
        before = job.spec
        if state in TERMINAL:
            with pytest.raises(ConflictError, match=state):
                change_resources(session, job.id, ResourcesSpec(workers=4))
            return
        assert change_resources(session, job.id, ResourcesSpec(workers=4))
        assert not change_resources(session, job.id, ResourcesSpec(workers=4))
        changed = session.get(Job, job.id, populate_existing=True)
        assert changed is not None
        assert changed.spec == {**before, "resources": {"workers": 4, "cpus_per_worker": 1, "gpus_per_worker": 0}}
        (event,) = (event for event in list_events(session, job.id, limit=10)[0] if event.kind == "resources_changed")
        assert event.data == {"from": before["resources"], "to": changed.spec["resources"]}
