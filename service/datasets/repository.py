"""The rows of datasets."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from service.store.models import Dataset
from workers.dataset import DatasetInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

INFO_FIELDS = [field.name for field in fields(DatasetInfo)]


class NameTakenError(Exception):
    """The name stands for another dataset."""


def add_dataset(session: Session, *, name: str, label: str, source: str, info: DatasetInfo) -> tuple[Dataset, bool]:
    """Register a dataset; gives it and whether it is new. NameTakenError when the name stands for other content."""
    found = get_dataset(session, name)
    if found is not None:
        if found.digest != info.digest:
            raise NameTakenError(name)
        return found, False
    dataset = Dataset(name=name, label=label, source=source, **asdict(info) | {"classes": list(info.classes)})
    session.add(dataset)
    session.flush()
    return dataset, True


def get_dataset(session: Session, name: str) -> Dataset | None:
    """The dataset, or None."""
    return session.get(Dataset, name)


def list_datasets(session: Session) -> Sequence[Dataset]:
    """Every dataset, in order of name."""
    # Sorted here: each database has an order of its own.
    return sorted(session.scalars(select(Dataset)), key=lambda dataset: dataset.name)


def snapshot_of(dataset: Dataset) -> dict[str, Any]:
    """What a job keeps of its dataset, as JSON."""
    return {name: getattr(dataset, name) for name in INFO_FIELDS}


def info_of(snapshot: Mapping[str, Any]) -> DatasetInfo:
    """What the workers need to know of a dataset, from a job's snapshot of it."""
    return DatasetInfo(**{**snapshot, "classes": tuple(snapshot["classes"])})
