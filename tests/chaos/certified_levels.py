"""A service on nodes of different CPUs, in this process, which is connected to their Ray cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.client import Client
from service.datasets.preparation.preparation import Selection
from service.datasets.repository import add_dataset
from service.scheduling.scheduler import Scheduler
from service.settings import Settings
from service.stack.app import create_app
from service.store import Database, migrate
from tests.fixtures.prepared import prepared
from tests.service.fixtures.support import hinge_job, served, wait_until, write_parquet
from workers.cluster.levels import levels_of_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 120.0  # seconds


class Nodes:
    """The cluster as the scheduler uses it."""

    resources = {"CPU": 2.0, "GPU": 0.0}  # noqa: RUF012

    def levels(self) -> list[list[str]]:
        return levels_of_nodes()

    def failed(self) -> bool:
        return False

    def restart(self) -> bool:
        raise AssertionError("nothing fails here")

    def leave(self) -> None:
        raise AssertionError("nothing else schedules here")


@contextmanager
def service(directory: Path) -> Iterator[Client]:
    """A service with the dataset "digits"."""
    settings = Settings(data_dir=directory / "data")
    settings.allowed_roots[0].mkdir(parents=True)
    source = settings.allowed_roots[0] / "digits.parquet"
    write_parquet(source)
    migrate(settings.database)
    database = Database(settings.database)
    found = prepared([source], settings.dataset_dir.absolute(), Selection())
    with database.writing() as session:
        add_dataset(session, name="digits", selection=Selection(), source=str(source), prepared=found)
    scheduler = Scheduler(database, settings, Nodes())
    scheduler.start()
    try:
        with served(create_app(settings, database=database, on_change=scheduler.wake)) as url, Client(url) as client:
            yield client
    finally:
        scheduler.stop()
        database.close()


def spec_at(level: str) -> dict[str, Any]:
    """A job with one worker at a level, and several checkpoints."""
    checkpoints = {"every_epochs": 1, "keep": 10}
    spec = hinge_job(**{"training.epochs": 4, "checkpoints": checkpoints, "resources.workers": 1})
    spec["training"]["arithmetic"] = level
    return spec


def certificate_of(client: Client, level: str) -> dict[str, Any]:
    job = client.submit(spec_at(level)).wait(timeout=PATIENCE)
    certificate = job.certificate()
    assert certificate["arithmetic"] == level
    assert len(certificate["checkpoints"]) == 4
    return certificate


def assert_verified(client: Client, certificate: dict[str, Any], **options: Any) -> None:
    job = client.verify(certificate, **options).wait(timeout=PATIENCE)
    assert job["verification"]["equal"] is True, job["verification"]
    assert job["spec"]["training"]["arithmetic"] == certificate["arithmetic"]


def assert_waits(client: Client, certificate: dict[str, Any], there: list[str]) -> None:
    """Assert that a certificate of a level that no node has is not verified, and that the reason says so."""
    level, known = certificate["arithmetic"], ", ".join(sorted(there))
    for options in ({}, {"sample": 1}):
        job = client.verify(certificate, **options)
        wait_until(lambda job=job: job.refresh().reason is not None, "a reason", timeout=PATIENCE)
        assert (job.state, job.progress["step"]) == ("queued", 0)
        assert job.reason == f"waiting_for_arithmetic: needs a node with {level}, and the nodes have {known}"
        job.cancel()
