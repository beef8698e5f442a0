from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from service.dashboard.server import behind_door
from service.settings import Settings
from tests.service.fakes.recording_mlflow import SECRET, RecordingMlflow
from tests.service.fixtures.support import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.store import Database


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def require_token() -> bool:
    return False


@pytest.fixture
def settings(settings: Settings, require_token: bool) -> Settings:
    return Settings(
        data_dir=settings.data_dir, require_token=require_token, mlflow_secret=SECRET, requests_per_second=10_000
    )


@pytest.fixture
def mlflow() -> RecordingMlflow:
    return RecordingMlflow()


@pytest.fixture
def door(mlflow: RecordingMlflow, settings: Settings, database: Database) -> Iterator[httpx.Client]:
    assert str(database.engine.url) == settings.database  # it has the tables
    application = behind_door(mlflow, settings)
    with served(application) as url, httpx.Client(base_url=url, timeout=10, verify=False) as client:
        yield client
