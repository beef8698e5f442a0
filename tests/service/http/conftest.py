from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.settings import Settings
from service.stack.app import create_app
from service.store import Database, migrate
from tests.service.fixtures.support import write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI


@pytest.fixture(scope="module")
def shared_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """An API with a dataset to register among its uploads, for all tests of a module."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    migrate(settings.database)
    database = Database(settings.database)
    settings.allowed_roots[0].mkdir(parents=True)
    write_parquet(settings.allowed_roots[0] / "digits.parquet")
    yield create_app(settings, database=database)
    database.close()
