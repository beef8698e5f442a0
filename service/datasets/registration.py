"""Registration: files become a version of a dataset."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import IntegrityError

from service.datasets.files.places import find_files
from service.datasets.files.unpacking import plain_name
from service.datasets.files.workspace import workspace
from service.datasets.preparation.preparation import prepare
from service.datasets.repository import add_dataset
from service.errors import InvalidError, UnavailableError
from workers.data.dataset import DatasetError
from workers.job.resolve import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from service.datasets.preparation.preparation import Prepared, Selection
    from service.datasets.schemas import DatasetRequest
    from service.http.dependencies import Services
    from service.store.models import Dataset

TRIES = 10
# Each takes a CPU and the disk, and requests of other kinds need threads as well.
REGISTRATIONS_AT_ONCE = 4


def check_room(services: Services) -> None:
    """Raise UnavailableError while the maximum number of registrations is running."""
    if services.registrations.locked():
        raise UnavailableError(
            f"{REGISTRATIONS_AT_ONCE} datasets are being registered, the maximum at the same time; try again."
        )


def register_path(services: Services, request: DatasetRequest) -> tuple[Dataset, bool]:
    """Register the files that a request names; returns the version and whether it is new.

    Raises InvalidError, which names the field that is wrong.
    """
    with workspace(services.settings.dataset_dir.absolute()) as scratch:
        with _problems_of("path"):
            files, source = find_files("path", request.path, services.settings, scratch)
            if request.labels is not None:
                files = files + find_files("labels", request.labels, services.settings, scratch)[0]
        selection = request.selection(request.labels)
        return register(services, request.name, files, selection, source=source, workspace=scratch)


def uploaded_name(filename: str) -> str:
    """The name under which an uploaded file is stored. Raises InvalidError for a name that no file can have."""
    try:
        name = plain_name(filename)
    except DatasetError:
        name = None
    if name is None:
        raise InvalidError(FieldProblem("filename", f"must be the name of a file, not {filename!r}"))
    return name


def register(
    services: Services, name: str, files: Sequence[Path], selection: Selection, *, source: str, workspace: Path
) -> tuple[Dataset, bool]:
    """Prepare files and record them under a name; returns the version and whether it is new.

    Raises InvalidError for files that are not a dataset.
    """
    settings = services.settings
    directory = settings.dataset_dir.absolute()
    with _problems_of("path"):
        prepared = prepare(files, workspace, directory, selection, max_bytes=settings.max_dataset_bytes)
    return _record(services, name, prepared, selection, source)


@contextmanager
def _problems_of(field: str) -> Iterator[None]:
    """Report what is wrong with the files as a problem of a field of the request."""
    try:
        yield
    except DatasetError as error:
        raise InvalidError(FieldProblem(field, str(error))) from error


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
            continue  # another request made a version with that number at the same time
    raise UnavailableError(f"Many versions of {name!r} are being created; try again.")
