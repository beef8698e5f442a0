"""Database operations on datasets."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, tuple_

from service.datasets.outputs import target_names
from service.errors import NotFoundError
from service.http.field_errors import unknown
from service.store.models import Dataset, DeletedVersions
from workers.data.dataset import DatasetInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from service.datasets.preparation.preparation import Prepared, Selection
    from service.settings import Settings
    from service.store.database import Transactions

INFO_FIELDS = [field.name for field in fields(DatasetInfo) if field.name != "path"]


def add_dataset(
    session: Session, *, name: str, selection: Selection, source: str, prepared: Prepared
) -> tuple[Dataset, bool]:
    """Record content under a name; returns its version and whether it is new.

    Content that differs from all versions that there are is the next version.
    """
    versions = list_versions(session, name)
    for version in versions:
        if version.digest == prepared.info.digest:
            return version, False
    deleted = session.scalar(select(DeletedVersions.last).where(DeletedVersions.name == name)) or 0
    dataset = Dataset(
        name=name,
        version=max(versions[0].version if versions else 0, deleted) + 1,
        label=selection.label,
        split_column=selection.split,
        source=source,
        format=prepared.format,
        profile=prepared.profile,
        **{name: value for name, value in prepared.info.to_json().items() if name in INFO_FIELDS},
    )
    session.add(dataset)
    session.flush()
    return dataset, True


def find_dataset(session: Session, reference: str) -> Dataset:
    """The dataset "digits" in its newest version, or the version that "digits@2" names. Raises NotFoundError."""
    newest = select(Dataset).where(Dataset.name == reference).order_by(Dataset.version.desc()).limit(1)
    found = session.scalar(newest)
    if found is None and (version_of := name_and_version(reference)):
        found = session.get(Dataset, version_of)
    if found is None:
        name, _, version = reference.rpartition("@")
        if versions := [dataset.version for dataset in list_versions(session, name)]:
            older = f" and {len(versions) - 20} older ones" if versions[20:] else ""
            shown = ", ".join(map(str, versions[:20]))
            raise NotFoundError(f"{name!r} has no version {version!r}; its versions are {shown}{older}")
        raise NotFoundError(unknown(reference, (dataset.name for dataset in list_datasets(session)), "dataset"))
    return found


def name_and_version(reference: str) -> tuple[str, int] | None:
    """The name and the number of the version that "digits@2" names; None for a reference without a version."""
    parts = re.fullmatch(r"(.+)@([1-9]\d{0,8})", reference)
    return None if parts is None else (parts[1], int(parts[2]))


def find_content(session: Session, digest: str) -> Dataset | None:
    """The newest version of a dataset that has the content with this digest, under whatever name; None without one."""
    newest = select(Dataset).where(Dataset.digest == digest).order_by(Dataset.created_at.desc()).limit(1)
    return session.scalar(newest)


def is_recorded(database: Transactions, file: Path) -> bool:
    """Whether a file, whose name is its digest, belongs to a dataset."""
    with database.reading() as session:
        return session.scalar(select(Dataset.version).where(Dataset.digest == file.stem).limit(1)) is not None


def list_versions(session: Session, name: str) -> Sequence[Dataset]:
    """All versions of a dataset, newest first."""
    return session.scalars(select(Dataset).where(Dataset.name == name).order_by(Dataset.version.desc())).all()


def list_datasets(session: Session) -> Sequence[Dataset]:
    """The newest version of every dataset, in order of name."""
    newest = select(Dataset.name, func.max(Dataset.version)).group_by(Dataset.name)
    found = session.scalars(select(Dataset).where(tuple_(Dataset.name, Dataset.version).in_(newest)))
    # Sorted here, since databases order text differently.
    return sorted(found, key=lambda dataset: dataset.name)


def snapshot_of(dataset: Dataset) -> dict[str, Any]:
    """The snapshot of its dataset that a job stores, as JSON; see `located`.

    `ignored` are the other columns of the files, which a table for predictions may have as well.
    """
    known = {name: getattr(dataset, name) for name in [*INFO_FIELDS, "name", "version"]}
    profile = dataset.profile
    others = [column["name"] for column in [*profile.get("left_out", ()), *profile["targets"]]]
    known["ignored"] = [*others, *filter(None, [dataset.label, dataset.split_column])]
    return known | ({"target_names": target_names(profile["targets"])} if dataset.targets else {})


def located(snapshot: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A snapshot with the path of the dataset's file, which is not stored."""
    return {**snapshot, "path": str(settings.dataset_file(snapshot["digest"]).absolute())}
