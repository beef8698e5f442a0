"""Preview of a dataset: its first rows, or some of its images."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.datasets.contact_sheet import contact_sheet
from service.datasets.schemas import DatasetPreview, PreviewRow
from service.errors import ConflictError
from workers.data.dataset import DatasetError, open_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.data.dataset import DatasetInfo


def first_rows(name: str, info: DatasetInfo, rows: int) -> DatasetPreview:
    """The first rows of a dataset. Raises ConflictError if its file cannot be read."""
    with _showing(name):
        features, labels = open_dataset(info)
    return DatasetPreview(
        rows=[
            PreviewRow(
                features=features[row].tolist(),
                label=info.classes[labels[row]] if info.classes else None,
                targets=[] if info.classes else labels[row].tolist(),
            )
            for row in range(min(rows, info.rows))
        ]
    )


def images(name: str, info: DatasetInfo) -> bytes:
    """Some images of a dataset as one PNG. Raises ConflictError if it cannot be read or its rows are not images."""
    with _showing(name):
        return contact_sheet(info)


@contextmanager
def _showing(name: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise ConflictError(f"{name!r} cannot be shown: {error}.") from error
