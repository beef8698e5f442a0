"""Registration: files become a version of a dataset."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from service.datasets.examples import EXAMPLES, SOURCE
from service.datasets.files.places import PlaceError, check_address, find_source, is_remote, recorded_source
from service.datasets.files.unpacking import plain_name
from service.datasets.files.workspace import workspace
from service.datasets.preparation.preparation import Prepared
from service.datasets.repository import add_dataset
from service.errors import InvalidError, UnavailableError
from workers.data.dataset import DatasetError, DatasetInfo
from workers.job.checks.problems import FieldProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.datasets.examples import ExampleName
    from service.datasets.preparation.preparation import Selection
    from service.datasets.schemas import DatasetRequest, UploadForm
    from service.datasets.tasks.runner import TaskRunner
    from service.http.dependencies import Services
    from service.store.models import Dataset

TRIES = 10


def register(services: Services, runner: TaskRunner, request: DatasetRequest) -> tuple[Dataset, bool]:
    """Register the files or the example that a request names; returns the version and whether it is new.

    Raises InvalidError, which names the field that is wrong.
    """
    if request.example is not None:
        return register_example(services, runner, request.name, request.example)
    assert request.path is not None  # noqa: S101  its model has checked this
    selection = request.selection(request.labels)
    paths = {"path": request.path} | ({} if request.labels is None else {"labels": request.labels})
    with workspace(services.settings.dataset_dir.absolute()) as scratch:
        places = {field: _place(services, runner, field, path, scratch) for field, path in paths.items()}
        with _problems_of("path"):
            source, prepared = _prepare(services, runner, selection, places, scratch)
        recorded = request.path if is_remote(request.path) else recorded_source(source, services.settings.data_dir)
        return _record(services, request.name, prepared, selection, recorded)


def register_example(services: Services, runner: TaskRunner, name: str, example: ExampleName) -> tuple[Dataset, bool]:
    """Register a dataset that scikit-learn brings; returns the version and whether it is new."""
    selection = EXAMPLES[example].selection
    with workspace(services.settings.dataset_dir.absolute()) as scratch:
        file = scratch / "example" / f"{example}.parquet"
        file.parent.mkdir()
        with _problems_of("example"):
            runner.run("example", example, {"name": example, "file": str(file)})
            places = {"example": {"roots": [str(file.parent)], "path": file.name}}
            _, prepared = _prepare(services, runner, selection, places, scratch)
        return _record(services, name, prepared, selection, f"{SOURCE}{example}")


def register_upload(services: Services, runner: TaskRunner, form: UploadForm, file: Path) -> tuple[Dataset, bool]:
    """Register a file that is in a folder of its own in a workspace; returns the version and whether it is new.

    Raises InvalidError, which names the field that is wrong; the file is that of the body.
    """
    selection = form.selection()
    places = {"body": {"roots": [str(file.parent)], "path": file.name}}
    with _problems_of("body"):
        _, prepared = _prepare(services, runner, selection, places, file.parent.parent)
    return _record(services, form.name, prepared, selection, file.name)


def uploaded_name(filename: str) -> str:
    """The name under which an uploaded file is stored. Raises InvalidError for a name that no file can have."""
    try:
        name = plain_name(filename)
    except DatasetError:
        name = None
    if name is None:
        raise InvalidError(FieldProblem("filename", f"must be the name of a file, not {filename!r}"))
    return name


def _place(services: Services, runner: TaskRunner, field: str, path: str, scratch: Path) -> dict[str, Any]:
    """Where the files are: a path below one of some directories; those of an object store are copied first."""
    settings = services.settings
    if not is_remote(path):
        with _problems_of(field):
            find_source(field, path, settings.allowed_roots)  # before a process is started, which looks again
        return {"roots": [str(root) for root in settings.allowed_roots], "path": path}
    with _problems_of(field):
        check_address(field, path, settings.allowed_uris)
        copy = {"uri": path, "directory": str(scratch / field), "max_bytes": settings.max_dataset_bytes}
        fetched = runner.run("fetch", path, copy, with_credentials=True)
    return {"roots": [str(scratch / field)], "path": fetched}


def _prepare(
    services: Services, runner: TaskRunner, selection: Selection, places: dict[str, dict[str, Any]], scratch: Path
) -> tuple[Path, Prepared]:
    settings = services.settings
    first, *_ = places.values()
    found = runner.run(
        "prepare",
        PurePath(first["path"]).name or "that folder",
        {
            "places": places,
            "selection": asdict(selection),
            "workspace": str(scratch),
            "directory": str(settings.dataset_dir.absolute()),
            "max_bytes": settings.max_dataset_bytes,
        },
    )
    return Path(found["source"]), Prepared(DatasetInfo.from_json(found["info"]), found["format"], found["profile"])


@contextmanager
def _problems_of(field: str) -> Iterator[None]:
    """Report what is wrong with the files as a problem of a field of the request."""
    try:
        yield
    except DatasetError as error:
        name = error.field if isinstance(error, PlaceError) else field
        raise InvalidError(FieldProblem(name, str(error))) from error


def _record(
    services: Services, name: str, prepared: Prepared, selection: Selection, source: str
) -> tuple[Dataset, bool]:
    for _ in range(TRIES):
        try:
            with services.database.writing() as session:
                dataset, created = add_dataset(
                    session, name=name, selection=selection, source=source, prepared=prepared
                )
                session.refresh(dataset, ["profile"])  # which is read when this session has ended
                session.expunge(dataset)
                return dataset, created
        except IntegrityError:
            continue  # another request made a version with that number at the same time
    raise UnavailableError(f"Many versions of {name!r} are being created; try again.")
