from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import numpy as np
from pydantic import SecretStr

from service.components import Components, ComponentStatus
from service.jobs.repository import create_job, move, start_attempt
from service.jobs.states import State
from service.stack.app import create_app
from tests.service.fixtures.support import hinge_job, served

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store import Database


class Cluster:
    resources = {"CPU": 4.0, "GPU": 1.0}  # noqa: RUF012

    def status(self) -> ComponentStatus:
        return ComponentStatus(ready=True, detail="")


def add_job(database: Database, *, running: bool) -> None:
    with database.writing() as session:
        job, _ = create_job(session, spec=hinge_job(), dataset={}, total_steps=1, body_sha256="b")
        if running:
            move(session, job.id, from_=State.QUEUED, to=State.STARTING)
            start_attempt(session, job.id, "supervisor")


def test_versions_resources_and_limits(settings: Settings, database: Database) -> None:
    settings = settings.model_copy(
        update={"mlflow_url": SecretStr("http://user:hunter2@mlflow.example"), "max_body_bytes": 123456}
    )
    add_job(database, running=True)  # two workers of one CPU
    add_job(database, running=False)
    with served(create_app(settings, database=database, components=Components(cluster=Cluster()))) as url:
        answer = httpx.get(f"{url}/v1/system", trust_env=False)
    system = answer.raise_for_status().json()
    assert system["cluster"] == {"CPU": {"total": 4, "free": 2}, "GPU": {"total": 1, "free": 1}}
    assert system["jobs"] == dict.fromkeys(State, 0) | {"starting": 1, "queued": 1}
    assert system["fingerprint"]["numpy"] == np.__version__
    assert set(system["versions"]) == {"gradfleet", "ray", "mlflow"}
    assert system["limits"]["max_body_bytes"] == 123456
    assert system["database"] == database.engine.dialect.name
    assert system["mlflow"] == {"enabled": True, "url": "http://mlflow.example"}
    for secret in ("hunter2", str(settings.data_dir), socket.gethostname()):
        assert secret not in answer.text


def test_a_process_without_cluster_and_without_mlflow(settings: Settings, database: Database) -> None:
    settings = settings.model_copy(update={"mlflow_url": None})
    with served(create_app(settings, database=database)) as url:
        system = httpx.get(f"{url}/v1/system", trust_env=False).raise_for_status().json()
    assert system["cluster"] is None
    assert system["mlflow"] == {"enabled": False, "url": None}
