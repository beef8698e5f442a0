"""Files become a version of a dataset."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from service.datasets.preparation.preparation import prepare
from service.datasets.repository import add_dataset
from service.http.problems import ProblemError, invalid
from workers.data.dataset import DatasetError
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from service.datasets.preparation.preparation import Prepared, Selection
    from service.http.dependencies import Services
    from service.store.models import Dataset

TRIES = 10
# Each takes a core and the disk; requests of other kinds want threads as well.
REGISTRATIONS_AT_ONCE = 4


def check_room(services: Services) -> None:
    """Raise a problem (503) while as many registrations are at work as may be at once."""
    if services.registrations.locked():
        message = f"{REGISTRATIONS_AT_ONCE} datasets are being registered, as many as may be at once; try again."
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, message, headers={"Retry-After": "5"})


def register(
    services: Services, name: str, files: Sequence[Path], selection: Selection, *, source: str, workspace: Path
) -> tuple[Dataset, bool]:
    """Prepare the files and record them under a name; gives the version and whether it is new.

    Raises ProblemError with what is wrong with the files.
    """
    settings = services.settings
    directory = settings.dataset_dir.absolute()
    try:
        prepared = prepare(files, workspace, directory, selection, max_bytes=settings.max_dataset_bytes)
    except DatasetError as error:
        raise invalid(FieldProblem("path", str(error))) from error
    return _record(services, name, prepared, selection, source)


def _record(
    services: Services, name: str, prepared: Prepared, selection: Selection, source: str
) -> tuple[Dataset, bool]:
    for _ in range(TRIES):
        try:
            with services.database.writing() as session:
                dataset, created = add_dataset(
                    session, name=name, selection=selection, source=source, prepared=prepared
                )
                session.expunge(dataset)
                return dataset, created
        except IntegrityError:
            continue  # somebody else made a version of that number in this moment
    raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"Many versions of {name!r} are being made; try again.")
