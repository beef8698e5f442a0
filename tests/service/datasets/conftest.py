from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from service.settings import Settings


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # these tests do not depend on the database


@pytest.fixture
def uploads(settings: Settings) -> Path:
    return settings.allowed_roots[0]
