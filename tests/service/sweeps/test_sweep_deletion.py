"""A sweep is deleted with its jobs, when all of them have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import func, select, update

from service.jobs.repository import count_by_state
from service.jobs.states import TERMINAL, State
from service.scheduling.scheduler import Scheduler
from service.store.models import Base, DeletedJob, Job, Metric, MlflowRun, OrphanedRun, Sweep
from service.sweeps.schemas import LOSSES_SWEEP
from service.tracking.exporter import exports
from tests.service.fixtures.support import hinge_job, run, train, wait_until
from tests.service.jobs.test_delete_during_export import Interrupted

if TYPE_CHECKING:
    from service.client import Client
    from service.settings import Settings
    from service.store import Database
    from tests.service.fakes.cluster import FakeCluster

pytestmark = pytest.mark.usefixtures("digits")


def create(api: httpx.Client, key: str = "one") -> str:
    answer = api.post("/v1/sweeps", json=LOSSES_SWEEP, headers={"Idempotency-Key": key}, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def members(database: Database, sweep_id: str) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Job.id).where(Job.sweep_id == sweep_id).order_by(Job.id)))


def end(database: Database, settings: Settings, sweep_id: str) -> None:
    """The first member has succeeded, the second one has failed, the others are cancelled; two have runs in MLflow."""
    first, second, *_ = members(database, sweep_id)
    train(database, first, State.SUCCEEDED)
    train(database, second, State.FAILED)
    with database.writing() as session:
        for number, job_id in enumerate((first, second)):
            session.add(MlflowRun(job_id=job_id, experiment_id="1", run_id=f"r{number}", status="RUNNING"))
    for job_id in (first, second):
        (settings.job_dir(job_id) / "checkpoints").mkdir(parents=True)
    (settings.sweep_dir(sweep_id) / "pictures").mkdir(parents=True)


def test_a_sweep_is_deleted_with_its_jobs(
    api: httpx.Client, database: Database, settings: Settings, cluster: FakeCluster, notifications: list[str]
) -> None:
    sweep_id, other = create(api), create(api, "two")
    alone = api.post("/v1/jobs", json=hinge_job(), timeout=60).json()["id"]
    end(database, settings, sweep_id)
    api.post(f"/v1/sweeps/{sweep_id}/cancel")
    with database.writing() as session:
        session.execute(update(Sweep).where(Sweep.id == sweep_id).values(mlflow_run_id="run of the sweep"))
    ids = members(database, sweep_id)
    notifications.clear()
    answer = api.delete(f"/v1/sweeps/{sweep_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in (f"/v1/sweeps/{sweep_id}", f"/v1/sweeps/{sweep_id}/comparison", f"/v1/jobs/{ids[0]}"):
        assert api.get(path).status_code == 404
    assert api.delete(f"/v1/sweeps/{sweep_id}").status_code == 404
    assert not any(settings.job_dir(job_id).exists() for job_id in ids)
    assert not settings.sweep_dir(sweep_id).exists()
    assert notifications == ["change"], "the scheduler removes the points"
    with database.reading() as session:
        tables = [table for table in Base.metadata.sorted_tables if "job_id" in table.columns]
        rows = {
            table.name: len(session.execute(table.select().where(table.c.job_id.in_(ids))).all()) for table in tables
        }
        assert {name for name, count in rows.items() if count} == {"metrics", "deleted_jobs"}
        assert set(session.scalars(select(OrphanedRun.run_id))) == {"r0", "r1", "run of the sweep"}
        counts = count_by_state(session)
        assert [counts[state] for state in TERMINAL] == [0, 0, 0]
        assert (counts[State.QUEUED], session.scalar(select(func.count()).select_from(Job))) == (13, 13)
    assert api.get(f"/v1/sweeps/{other}").json()["jobs"] == {"queued": 12}
    assert api.get(f"/v1/jobs/{alone}").status_code == 200
    scheduler = Scheduler(database, settings, cluster)
    scheduler.start()
    try:
        wait_until(lambda: not left(database), "all points are removed")
    finally:
        scheduler.stop()
    again = api.post("/v1/sweeps", json={**LOSSES_SWEEP, "name": "n"}, headers={"Idempotency-Key": "one"}, timeout=60)
    assert again.status_code == 201, "the key can be used again"


def left(database: Database) -> int:
    with database.reading() as session:
        return sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in (DeletedJob, Metric))


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_a_sweep_with_a_job_that_has_not_ended_is_not_deleted(
    api: httpx.Client, database: Database, state: State
) -> None:
    sweep_id = create(api)
    *_, last = members(database, sweep_id)
    api.post(f"/v1/sweeps/{sweep_id}/cancel")
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == last).values(state=state))
    answer = api.delete(f"/v1/sweeps/{sweep_id}")
    assert answer.status_code == 409
    assert f"Sweep {sweep_id} has not ended: {last} is {state}. Cancel it" in answer.json()["detail"]
    assert len(members(database, sweep_id)) == 12


def test_a_sweep_whose_jobs_have_been_deleted(api: httpx.Client, database: Database) -> None:
    sweep_id = create(api)
    api.post(f"/v1/sweeps/{sweep_id}/cancel")
    for job_id in members(database, sweep_id):
        assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert api.get(f"/v1/sweeps/{sweep_id}").json()["state"] == "empty"
    assert api.delete(f"/v1/sweeps/{sweep_id}").status_code == 204


def test_client_and_command(client: Client, url: str) -> None:
    made = client.sweep(LOSSES_SWEEP)
    refused = run(url, "delete", made.id)
    assert (refused.exit_code, "and 11 other jobs of it" in refused.stderr) == (1, True)
    made.cancel()
    done = run(url, "delete", made.id)
    assert (done.exit_code, done.stdout) == (0, f"{made.id} deleted, with 12 jobs\n")
    other = client.sweep(LOSSES_SWEEP).cancel()
    other.delete()
    assert list(client.sweeps()) == []


@pytest.mark.parametrize("rejects", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 8])
def test_a_sweep_that_is_deleted_during_its_export(
    api: httpx.Client, database: Database, settings: Settings, number: int, rejects: bool
) -> None:
    """Its members have been exported; every call to MLflow may be the one during which it is deleted."""
    sweep_id = create(api)
    api.post(f"/v1/sweeps/{sweep_id}/cancel")
    with database.writing() as session:
        session.execute(update(Job).values(mlflow_finished=True))

    def remove() -> None:
        assert api.delete(f"/v1/sweeps/{sweep_id}").status_code == 204

    mlflow = Interrupted(number, remove, rejects=rejects)
    parts = exports(database, settings, mlflow)  # type: ignore[arg-type]
    try:
        parts.sweeps.export(sweep_id)
    except Exception as error:  # noqa: BLE001
        parts.sweeps.record_rejection(sweep_id, error)  # type: ignore[arg-type]
        assert rejects
    finally:
        parts.jobs.close()
    with database.reading() as session:
        assert session.get(Sweep, sweep_id) is None
        recorded = list(session.scalars(select(OrphanedRun.run_id)))
    made = "create_run" in mlflow.calls
    if made and not rejects:
        assert ("delete_run" in mlflow.calls) != bool(recorded), "its run is removed, or ended later"
