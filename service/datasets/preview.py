"""Preview of a dataset: its first rows, or some of its images."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.datasets.schemas import DatasetPreview
from service.errors import ConflictError
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.datasets.tasks.runner import TaskRunner
    from workers.data.dataset import DatasetInfo


def first_rows(runner: TaskRunner, name: str, info: DatasetInfo, rows: int) -> DatasetPreview:
    """The first rows of a dataset. Raises ConflictError if its file cannot be read."""
    with _showing(name):
        return DatasetPreview(rows=runner.run("preview", "it", {"info": info.to_json(), "rows": rows}))


def images(runner: TaskRunner, name: str, info: DatasetInfo) -> bytes:
    """Some images of a dataset as one PNG. Raises ConflictError if it cannot be read or its rows are not images."""
    with _showing(name):
        return base64.b64decode(runner.run("contact_sheet", "it", {"info": info.to_json()}))


@contextmanager
def _showing(name: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise ConflictError(f"{name!r} cannot be shown: {error}.") from error
