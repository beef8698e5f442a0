"""Deletion of datasets, unless a job that has not ended uses them; and jobs that are submitted at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from service.datasets.repository import find_dataset, name_and_version
from service.errors import ConflictError, InvalidError
from service.jobs.states import TERMINAL, State
from service.short_text import counted
from service.store.models import Dataset, DeletedVersions, Job
from workers.job.checks.problems import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from service.jobs.schemas import JobDatasetView

NOT_ENDED = [state.value for state in State if state not in TERMINAL]


def delete_dataset(session: Session, reference: str) -> set[str]:
    """Delete all versions of the dataset "digits", or the version that "digits@2" names; returns their digests.

    The numbers of deleted versions are not used again. Raises NotFoundError, and ConflictError if a job that has not
    ended uses one of them.
    """
    # On PostgreSQL writers run concurrently: with these locks no job that uses a version can be added, see `hold`.
    name, rows = reference, _lock(session, Dataset.name == reference)
    if not rows and (version_of := name_and_version(reference)):
        name, version = version_of
        rows = _lock(session, Dataset.name == name, Dataset.version == version)
    if not rows:
        find_dataset(session, reference)  # raises the error
    _check_unused(session, reference, name, list(rows))
    last = session.get(DeletedVersions, name) or DeletedVersions(name=name, last=0)
    last.last = max(last.last, *rows)
    session.add(last)
    session.execute(delete(Dataset).where(Dataset.name == name, Dataset.version.in_(rows)))
    return set(rows.values())


def hold(session: Session, snapshots: Iterable[Mapping[str, Any]], field: str = "data.dataset") -> None:
    """Keep datasets until the end of the transaction, which has added jobs with these snapshots of them.

    Raises InvalidError if one was deleted after the snapshot was read.
    """
    wanted = {(each["name"], each["version"]): each["digest"] for each in snapshots}
    for (name, version), digest in sorted(wanted.items()):
        same = Dataset.name == name, Dataset.version == version, Dataset.digest == digest
        held = select(Dataset.version).where(*same).with_for_update(read=True, key_share=True)
        if session.scalar(held) is None:
            raise InvalidError(FieldProblem(field, f"{name}@{version} was deleted while the job was submitted"))


def was_deleted(session: Session, dataset: JobDatasetView) -> bool:
    """Whether the version of a dataset that a job was trained on has been deleted."""
    there = select(Dataset.version).where(Dataset.name == dataset.name, Dataset.version == dataset.version)
    return session.scalar(there) is None


def _lock(session: Session, *conditions: ColumnElement[bool]) -> dict[int, str]:
    """The digests of versions, by their number; other transactions that need them wait."""
    query = select(Dataset.version, Dataset.digest).where(*conditions).order_by(Dataset.version).with_for_update()
    return {row.version: row.digest for row in session.execute(query)}


def _check_unused(session: Session, reference: str, name: str, versions: list[int]) -> None:
    used = (
        Job.state.in_(NOT_ENDED),
        Job.dataset["name"].as_string() == name,
        Job.dataset["version"].as_integer().in_(versions),
    )
    first = session.execute(select(Job.id, Job.state, Job.sweep_id).where(*used).order_by(Job.id).limit(1)).first()
    if first is None:
        return
    others = (session.scalar(select(func.count()).select_from(Job).where(*used)) or 1) - 1
    of_sweep = f" (of {first.sweep_id})" if first.sweep_id else ""
    more = f", and {counted(others, 'other job')} that {'has' if others == 1 else 'have'} not ended" if others else ""
    raise ConflictError(
        f"Dataset {reference!r} is used by {first.id}{of_sweep}, which is {first.state}{more}: cancel what uses it and "
        "wait until it has ended, then delete the dataset."
    )
