from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, func, insert, select

from service.client import ApiError, Client
from service.jobs import actions
from service.jobs.repository import finish_attempt, move, start_attempt
from service.jobs.series.points import Point
from service.jobs.states import TERMINAL, State
from service.scheduling.scheduler import Scheduler
from service.store.models import Attempt, DeletedJob, Event, Job, Label, Metric, MlflowRun
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.points import record_points
from tests.service.fixtures.support import hinge_job, wait_until

if TYPE_CHECKING:
    import httpx

    from service.settings import Settings
    from service.store import Database

pytestmark = pytest.mark.usefixtures("digits")


def submit(api: httpx.Client, database: Database, settings: Settings, state: State) -> str:
    """A job in `state` with rows in every table, and a file."""
    headers = {"Idempotency-Key": f"a {state} one"}
    job_id = str(api.post("/v1/jobs", json=hinge_job(labels={"team": "a"}), headers=headers).json()["id"])
    with database.writing() as session:
        attempt = start_attempt(session, job_id, "supervisor")
        move(session, job_id, from_=State.QUEUED, to=State.STARTING, attempt=attempt)
        record_points(session, job_id, attempt, [Point("train/loss", 1, 0.5, 1000)])
        finish_attempt(session, job_id, attempt, outcome="succeeded")
        session.get_one(Job, job_id).state = state
        session.add(MlflowRun(job_id=job_id, experiment_id="1", run_id="r", status="RUNNING"))
    checkpoint = settings.job_dir(job_id) / "checkpoints" / "model.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"weights")
    return job_id


def rows_of(database: Database, job_id: str) -> int:
    with database.reading() as session:
        counts = (
            session.scalar(select(func.count()).select_from(table).where(table.job_id == job_id))
            for table in (Attempt, Event, Label, Metric, MlflowRun)
        )
        return sum(count or 0 for count in counts)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_ended_job_is_deleted_with_all_its_rows_and_files(
    api: httpx.Client, database: Database, settings: Settings, state: State
) -> None:
    job_id = submit(api, database, settings, state)
    other = submit(api, database, settings, State.RUNNING)
    rows = rows_of(database, other)
    answer = api.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404
    assert rows_of(database, job_id) == 0
    assert not settings.job_dir(job_id).exists()
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert [job["id"] for job in api.get("/v1/jobs").json()["data"]] == [other]
    assert rows_of(database, other) == rows > 0
    assert settings.job_dir(other).exists()
    again = api.post("/v1/jobs", json=hinge_job(name="n"), headers={"Idempotency-Key": f"a {state} one"})
    assert again.status_code == 201, "the key can be used again"


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_a_job_that_has_not_ended_is_not_deleted(
    api: httpx.Client, database: Database, settings: Settings, state: State
) -> None:
    job_id = submit(api, database, settings, state)
    rows = rows_of(database, job_id)
    answer = api.delete(f"/v1/jobs/{job_id}")
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"Job {job_id} is {state}: cancel it and wait until it has ended, then delete it."
    assert api.get(f"/v1/jobs/{job_id}").json()["state"] == state
    assert rows_of(database, job_id) == rows
    assert settings.job_dir(job_id).exists()


def test_the_client_deletes_a_job_without_a_directory(api: httpx.Client) -> None:
    with Client(str(api.base_url)) as client:
        job = client.submit(hinge_job())
        with pytest.raises(ApiError, match="is queued: cancel it"):
            job.delete()
        job.cancel().delete()
        assert list(client.jobs()) == []


def test_many_points_are_removed_in_several_transactions(
    api: httpx.Client, database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler removes what is left; no transaction removes more than some, and other jobs keep theirs."""
    monkeypatch.setattr(actions, "POINTS", 10)
    job_id, other = (submit(api, database, settings, state) for state in (State.SUCCEEDED, State.FAILED))
    with database.writing() as session:
        for owner in (job_id, other):
            points = [{"job_id": owner, "name": "a", "step": step, "value": 0.5, "time_ms": 1} for step in range(34)]
            session.execute(insert(Metric), points)
    left = rows_of(database, other)
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404
    assert rows_of(database, job_id) == 25, "the first 10 of 35 points, and all other rows, are gone"
    removed = []
    event.listen(database.engine, "after_cursor_execute", lambda _c, cursor, text, *_: removed.append(cursor.rowcount)
                 if text.startswith("DELETE FROM metrics") else None)  # fmt: skip
    scheduler = Scheduler(database, settings, cluster)
    scheduler.start()
    try:
        wait_until(lambda: not has_deleted(database), "all points are removed")
    finally:
        scheduler.stop()
    assert removed == [10, 10, 5]
    assert (rows_of(database, job_id), rows_of(database, other)) == (0, left)


def has_deleted(database: Database) -> bool:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(DeletedJob)) != 0
