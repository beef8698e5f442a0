from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers.fixtures.helpers import blobs

if TYPE_CHECKING:
    from workers.data.dataset import DatasetInfo


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    return blobs(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use all threads, although the models of the tests are small."""
    monkeypatch.setattr("workers.training.gradients.SMALLEST_SHARE", 1)
