"""At most `max_queued_jobs` jobs wait: more are rejected with 429, and can be sent again later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from service.jobs.repository import jobs_in, move
from service.jobs.states import State
from service.settings import Settings
from service.store.models import Job, Sweep
from tests.service.fixtures.support import hinge_job

if TYPE_CHECKING:
    import httpx

    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued_jobs": 3})


def post_job(api: httpx.Client, key: str | None = None) -> httpx.Response:
    return api.post("/v1/jobs", json=hinge_job(), headers={"Idempotency-Key": key} if key else {})


def post_sweep(api: httpx.Client, members: int, key: str) -> httpx.Response:
    base = {name: value for name, value in hinge_job().items() if name not in {"name", "experiment"}}
    sweep: dict[str, Any] = {"name": "s", "base": base, "seeds": list(range(members))}
    return api.post("/v1/sweeps", json=sweep, headers={"Idempotency-Key": key})


def rows(database: Database) -> tuple[int, int]:
    """The number of jobs and of sweeps."""
    with database.reading() as session:
        jobs, sweeps = (session.scalar(select(func.count()).select_from(table)) or 0 for table in (Job, Sweep))
        return jobs, sweeps


def start_one(database: Database) -> None:
    with database.writing() as session:
        move(session, jobs_in(session, [State.QUEUED])[0].id, from_=State.QUEUED, to=State.STARTING)


def assert_full(answer: httpx.Response) -> None:
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert "At most 3 jobs may be queued (max_queued_jobs)" in answer.json()["detail"]


def test_a_job_beyond_the_limit_is_accepted_when_another_has_started(api: httpx.Client, database: Database) -> None:
    first = post_job(api, "first")
    assert [post_job(api).status_code for _ in range(2)] == [201, 201]
    assert_full(post_job(api, "late"))
    assert rows(database) == (3, 0)
    again = post_job(api, "first")
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"]), "it exists already"
    start_one(database)
    late = post_job(api, "late")
    assert late.status_code == 201
    assert (post_job(api, "late").status_code, post_job(api, "late").json()["id"]) == (200, late.json()["id"])


def test_a_sweep_beyond_the_limit_is_rejected_as_a_whole(api: httpx.Client, database: Database) -> None:
    assert post_job(api).status_code == 201
    answer = post_sweep(api, 3, "late")
    assert_full(answer)
    assert "with 3 more" in answer.json()["detail"]
    assert rows(database) == (1, 0)
    start_one(database)
    assert post_sweep(api, 3, "late").status_code == 201
    assert post_sweep(api, 3, "late").status_code == 200
    assert_full(post_sweep(api, 4, "never"))
    assert rows(database) == (4, 1)


def test_the_limit_is_shown(api: httpx.Client) -> None:
    assert api.get("/v1/system").json()["limits"]["max_queued_jobs"] == 3
