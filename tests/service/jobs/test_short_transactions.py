"""Nothing that takes time is computed in a transaction that writes: on SQLite all other writers wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from service.jobs import checks, routes
from service.jobs.repository import create_job
from service.scheduling import scheduler as scheduler_module
from service.scheduling.scheduler import Scheduler
from service.store.models import Job
from service.sweeps import routes as sweep_routes
from service.sweeps.schemas import LOSSES_SWEEP
from tests.service.fixtures.support import hinge_job, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from service.settings import Settings
    from service.store import Database
    from tests.service.fakes.cluster import FakeCluster


@pytest.fixture(params=["sqlite"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.usefixtures("digits")
def test_requests_are_checked_before_their_transactions(
    api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = database._turns
    assert turns is not None
    inside: dict[str, list[bool]] = {}

    def watch(module: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(module, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            inside.setdefault(name, []).append(bool(turns._writers))
            return function(*arguments, **named)

        monkeypatch.setattr(module, name, watched)

    for module, name in [
        (checks, "resolve"),
        (routes, "spec_json"),
        (routes, "body_digest"),
        (sweep_routes, "members_of"),
        (sweep_routes, "member_rows"),
    ]:
        watch(module, name)
    job_id = api.post("/v1/jobs", json=hinge_job()).json()["id"]
    assert api.patch(f"/v1/jobs/{job_id}", json={"resources": {"workers": 1}}).status_code == 200
    assert api.post("/v1/sweeps", json=LOSSES_SWEEP).status_code == 201
    assert inside.keys() == {"resolve", "spec_json", "body_digest", "members_of", "member_rows"}
    assert not any(any(found) for found in inside.values())


@pytest.mark.usefixtures("digits")
def test_two_changes_at_the_same_time_are_both_made(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is checked again with the result of the first."""
    path = f"/v1/jobs/{api.post('/v1/jobs', json=hinge_job()).json()['id']}"
    check, checked = routes.checked_resources, []

    def interrupted(*arguments: Any) -> Any:
        checked.append(arguments)
        if len(checked) == 1:
            api.patch(path, json={"resources": {"workers": 1}})
        return check(*arguments)

    monkeypatch.setattr(routes, "checked_resources", interrupted)
    answer = api.patch(path, json={"resources": {"cpus_per_worker": 2}})
    assert answer.json()["spec"]["resources"] == {"workers": 1, "cpus_per_worker": 2, "gpus_per_worker": 0}
    assert len(checked) == 3


def test_the_reasons_of_many_waiting_jobs_are_written_in_several_transactions(
    database: Database, settings: Settings, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "REASONS", 4)
    with database.writing() as session:
        for _ in range(10):
            spec = hinge_job(**{"resources.workers": 1000, "resources.cpus_per_worker": 1})
            spec["resources"]["gpus_per_worker"] = 0
            create_job(session, spec=spec, dataset={}, total_steps=1, body_sha256="b")
    written: list[int] = [0]

    def statement(_connection: object, _cursor: object, text: str, *_: object) -> None:
        written[-1] += text.startswith("UPDATE jobs")

    def commit(_connection: object) -> None:
        written.append(0)

    event.listen(database.engine, "before_cursor_execute", statement)
    event.listen(database.engine, "commit", commit)
    scheduler = Scheduler(database, settings, cluster)
    scheduler.start()
    try:
        wait_until(lambda: sum(written) == 10, "all reasons are written")
    finally:
        scheduler.stop()
    assert [count for count in written if count] == [4, 4, 2]
    with database.reading() as session:
        assert all((job.reason or "").startswith("cluster_too_small") for job in session.query(Job))
