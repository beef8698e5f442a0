from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from pydantic import SecretStr

from service.components import Components, ComponentStatus
from service.jobs.repository import create_job
from service.scheduling.scheduler import Scheduler
from service.stack.app import create_app
from service.stack.ray_cluster import RayCluster
from service.store import Database
from service.tracking import MlflowExporter
from tests.service.fakes.cluster import FakeCluster
from tests.service.fixtures.support import free_port, hinge_job, served, wait_until

if TYPE_CHECKING:
    from service.settings import Settings


class FixedStatus:
    """A component with a fixed status."""

    def __init__(self, detail: str, *, ready: bool = True) -> None:
        self.resources = {"CPU": 4.0, "GPU": 0.0}
        self._status = ComponentStatus(ready, detail)

    def status(self) -> ComponentStatus:
        return self._status


GOOD, BAD = FixedStatus("works"), FixedStatus("is broken", ready=False)


def readiness(settings: Settings, database: Database, components: Components) -> httpx.Response:
    with served(create_app(settings, database=database, components=components)) as url:
        return httpx.get(f"{url}/readyz", trust_env=False)


def test_every_component_is_reported(settings: Settings, database: Database) -> None:
    answer = readiness(settings, database, Components(GOOD, FixedStatus("stands by"), GOOD))
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "components": {
            "database": {"ready": True, "detail": "it responds"},
            "disk": {"ready": True, "detail": "it has free space"},
            "cluster": {"ready": True, "detail": "works"},
            "scheduler": {"ready": True, "detail": "stands by"},
            "mlflow": {"ready": True, "detail": "works"},
        },
    }


@pytest.mark.parametrize(
    ("components", "status"),
    [
        (Components(), 200),
        (Components(cluster=BAD, scheduler=GOOD), 503),
        (Components(cluster=GOOD, scheduler=BAD), 503),
        (Components(cluster=GOOD, scheduler=GOOD, mlflow=BAD), 200),
    ],
)
def test_only_components_that_jobs_need_make_the_service_unready(
    settings: Settings, database: Database, components: Components, status: int
) -> None:
    answer = readiness(settings, database, components)
    assert answer.status_code == status
    assert answer.json()["status"] == ("ready" if status == 200 else "not ready")
    wrong = {name for name, component in vars(components).items() if component is BAD}
    assert {name for name, component in answer.json()["components"].items() if not component["ready"]} == wrong


def test_an_unavailable_database(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    lost = Database(f"sqlite:///{settings.data_dir}/not/there.db")
    with served(create_app(settings, database=lost)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        answer = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
    lost.close()
    assert answer.status_code == 503
    assert answer.json()["components"]["database"] == {"ready": False, "detail": "it does not respond"}
    assert "the database does not respond" in caplog.text


def test_a_scheduler_is_ready_while_its_passes_succeed(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster()
    monkeypatch.setattr("service.scheduling.scheduler.Supervisors", cluster)
    monkeypatch.setattr("service.scheduling.scheduler.IDLE_WAIT", 0.02)
    scheduler = Scheduler(database, settings, cluster)
    assert scheduler.status() == (False, "it does not run")
    scheduler.start()
    try:
        wait_until(lambda: scheduler.status().ready, "a pass has ended")
        with monkeypatch.context() as trouble:
            trouble.setattr("service.scheduling.scheduler.LONGEST_PASS", 0.2)
            trouble.setattr(cluster, "failed", lambda: 1 / 0)
            wait_until(lambda: not scheduler.status().ready, "passes fail")
            assert scheduler.status().detail.startswith("its last pass ended 0.")
        wait_until(lambda: scheduler.status().ready, "passes end again")
    finally:
        scheduler.stop()


def test_an_export_is_not_ready_while_mlflow_is_unavailable(settings: Settings, database: Database) -> None:
    with database.writing() as session:
        create_job(session, spec=hinge_job(), dataset={"digest": "00"}, total_steps=1, body_sha256="b")
    without_server = settings.model_copy(update={"mlflow_url": SecretStr(f"http://127.0.0.1:{free_port()}")})
    exporter = MlflowExporter(database, without_server)
    assert exporter.status() == (False, "the export is not running")
    exporter.start()
    try:
        wait_until(lambda: "does not respond" in exporter.status().detail, "the exporter reports the outage")
        assert not exporter.status().ready
    finally:
        exporter.stop()
    assert MlflowExporter(database, settings.model_copy(update={"mlflow_url": None})).status().ready


def test_a_cluster_is_ready_while_ray_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    dead: deque[tuple[str, object]] = deque()
    node = SimpleNamespace(dead_processes=lambda: dead)
    monkeypatch.setattr("ray._private.worker._global_node", node)
    cluster = RayCluster("unused", 2, 0)
    cluster.resources = {"CPU": 2.0, "GPU": 0.0}
    assert cluster.status() == (True, "2 CPUs, 0 GPUs")
    dead.append(("raylet", None))
    assert not cluster.status().ready
