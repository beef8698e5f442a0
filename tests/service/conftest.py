from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from service.access.tokens import Role, add_token
from service.analysis.artist import Artist
from service.client import Client
from service.datasets.preparation.preparation import Selection
from service.datasets.repository import add_dataset
from service.datasets.tasks import contact_sheet, example, prepare, preview
from service.datasets.tasks.runner import TaskRunner, result_of
from service.datasets.tasks.serving import answer_of
from service.scheduling.scheduler import Scheduler
from service.settings import Settings
from service.stack.app import create_app
from service.store import Database, migrate
from service.tracking import MlflowExporter
from tests.fixtures.prepared import prepared
from tests.service.fakes.cluster import FakeCluster
from tests.service.fakes.mlflow_server import MlflowServer
from tests.service.fixtures.support import served, sqlite_template, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from tests.fixtures.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Run each test with both databases. A module whose tests do not depend on the database overrides this."""
    return str(request.param)


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """Name of a PostgreSQL database with all tables. Copying it is faster than migrating a new one."""
    url = postgres.create_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """URL of a database with all tables and no rows. None is the default of the settings."""
    if database_kind == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database(template=request.getfixturevalue("migrated_template"))
    yield url
    server.drop_database(url)


@pytest.fixture
def mlflow_url() -> str:
    """URL of the MLflow server in the settings. A module that needs a real server overrides this."""
    return "http://mlflow.example"


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None, mlflow_url: str) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", database_url=database_url, mlflow_url=mlflow_url)
    settings.allowed_roots[0].mkdir(parents=True)
    return settings


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        Path(make_url(settings.database).database or "").write_bytes(sqlite_template())
    database = Database(settings.database)
    yield database
    database.close()


@pytest.fixture
def tokens(database: Database) -> dict[Role, str]:
    """One token of each role."""
    with database.writing() as session:
        return {role: add_token(session, f"a {role} token", role)[1] for role in Role}


@pytest.fixture
def notifications() -> list[str]:
    """The calls of the application's `on_change`."""
    return []


@pytest.fixture
def app(settings: Settings, database: Database, notifications: list[str]) -> FastAPI:
    return create_app(
        settings,
        database=database,
        on_change=lambda: notifications.append("change"),
    )


@pytest.fixture
def api(app: FastAPI) -> Iterator[httpx.Client]:
    with served(app) as url, httpx.Client(base_url=url, timeout=10, verify=False) as client:  # saves loading CA files
        yield client


@pytest.fixture
def digits(api: httpx.Client, settings: Settings, database: Database) -> dict[str, Any]:
    """A registered dataset "digits": 300 rows, 8 features, 10 classes."""
    source = settings.allowed_roots[0] / "digits.parquet"
    write_parquet(source)
    # Prepared in this process, since many tests need it and starting another one takes time.
    found = prepared([source], settings.dataset_dir.absolute(), Selection())
    with database.writing() as session:
        add_dataset(session, name="digits", selection=Selection(), source=str(source), prepared=found)
    return dict(api.get("/v1/datasets").json()["data"][0])


@pytest.fixture
def houses(api: httpx.Client, settings: Settings, database: Database) -> dict[str, Any]:
    """A registered dataset "houses": 300 rows, 3 features, and one target."""
    source = settings.allowed_roots[0] / "houses.csv"
    rows = (f"{row % 7},{row % 3},{row % 5},{row}" for row in range(300))
    source.write_text("\n".join(["rooms,baths,age,price", *rows]))
    selection = Selection(label=None, targets=["price"])
    found = prepared([source], settings.dataset_dir.absolute(), selection)
    with database.writing() as session:
        add_dataset(session, name="houses", selection=selection, source=str(source), prepared=found)
    return dict(api.get("/v1/datasets/houses").json())


@pytest.fixture
def reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files in this process: for tests that read very many or that change a function which reads."""
    tasks = {task.__name__.rpartition(".")[2]: task.run for task in (prepare, preview, contact_sheet, example)}

    def run(_: TaskRunner, task: str, what: str, arguments: dict[str, Any]) -> Any:
        return result_of(answer_of(tasks[task], {"what": what, "arguments": arguments}), what)

    monkeypatch.setattr(TaskRunner, "run", run)


@pytest.fixture
def url(api: httpx.Client) -> str:
    return str(api.base_url).rstrip("/")


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Replaces Ray in the scheduler, which then checks it every 20 ms."""
    cluster = FakeCluster()
    monkeypatch.setattr("service.scheduling.scheduler.Attempt", cluster)
    monkeypatch.setattr("service.scheduling.scheduler.Supervisors", cluster)
    monkeypatch.setattr("service.scheduling.scheduler.IDLE_WAIT", 0.02)
    return cluster


@pytest.fixture
def scheduler(database: Database, settings: Settings, cluster: FakeCluster) -> Iterator[Scheduler]:
    """A running scheduler on the fake cluster."""
    scheduler = Scheduler(database, settings, cluster)
    scheduler.start()
    yield scheduler
    scheduler.stop()


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()
    server.log.close()


@pytest.fixture
def exporter(database: Database, settings: Settings) -> Iterator[MlflowExporter]:
    exporter = MlflowExporter(database, settings)
    yield exporter
    exporter.stop()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip drawing, so that the exporter does not wait for pictures."""
    done: Future[None] = Future()
    done.set_result(None)
    monkeypatch.setattr(Artist, "draw", lambda *_: done)
