"""Endpoints of datasets."""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.datasets.files.places import find_files, shown_source
from service.datasets.files.unpacking import plain_name
from service.datasets.files.uploading import MEDIA_TYPE, check_media_type, receive_file
from service.datasets.files.workspace import workspace
from service.datasets.registration import check_room, register
from service.datasets.repository import get_dataset, list_datasets, list_versions
from service.datasets.schemas import DatasetDetail, DatasetList, DatasetRequest, DatasetView, UploadForm
from service.http.dependencies import Services, ServicesDependency
from service.http.field_errors import unknown
from service.http.idempotency import IDEMPOTENT
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES, ProblemError, invalid
from service.settings import Settings
from service.store.models import Dataset
from workers.data.dataset import DatasetError
from workers.job.resolve import FieldProblem

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

UPLOAD_PATH = "/v1/datasets/upload"

LOCATION = {"headers": {"Location": {"description": "Path of the version.", "schema": {"type": "string"}}}}
REGISTERED: dict[int | str, dict[str, Any]] = {
    201: LOCATION,
    200: LOCATION | {"model": DatasetView, "description": "The version, which was there"},
}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    dependencies=[IDEMPOTENT],
    response_description="The version",
    responses=REGISTERED,
)
async def register_dataset(request: DatasetRequest, response: Response, services: ServicesDependency) -> DatasetView:
    """Check files on the service's side and register them under a name.

    Parquet (a file or a folder), Arrow, CSV, .npy and .npz, IDX, and CIFAR's binary format; also gzipped, and in a
    .zip or .tar. The same content again, whatever its format, is the version that is there; other
    content is the next version.
    """
    check_room(services)
    async with services.registrations:
        dataset, created = await run_in_threadpool(_register, request, services)
    return _registered(dataset, response, services.settings, created=created)


@router.post(
    "/upload",
    status_code=HTTPStatus.CREATED,
    dependencies=[Depends(check_media_type), IDEMPOTENT],
    response_description="The version",
    responses=REGISTERED,
    openapi_extra={
        "requestBody": {
            "description": "The file; several in a .zip or .tar.",
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_dataset(
    request: Request, form: Annotated[UploadForm, Query()], response: Response, services: ServicesDependency
) -> DatasetView:
    """Check the file in the body and register it under a name, like one that is on the service's side."""
    settings = services.settings
    check_room(services)
    try:
        name = plain_name(form.filename)
    except DatasetError:
        name = None
    if name is None:
        raise invalid(FieldProblem("filename", f"must be the name of a file, not {form.filename!r}"))
    with workspace(settings.dataset_dir.absolute()) as scratch:
        file = scratch / "uploaded" / name
        file.parent.mkdir()
        await receive_file(request, file, max_bytes=settings.max_upload_bytes, max_seconds=settings.max_body_seconds)
        async with services.registrations:  # who has sent a file is not refused: it waits for its turn
            dataset, created = await run_in_threadpool(
                register, services, form.name, [file], form.selection(), source=name, workspace=scratch
            )
    return _registered(dataset, response, settings, created=created)


@router.get("", response_description="All datasets")
def get_datasets(services: ServicesDependency) -> DatasetList:
    """Every dataset, in its newest version."""
    with services.database.reading() as session:
        return DatasetList(data=[_view(dataset, services.settings) for dataset in list_datasets(session)])


@router.get("/{name}", response_description="The dataset")
def get_one_dataset(name: str, services: ServicesDependency) -> DatasetDetail:
    """One dataset, in its newest version, or in the one of name@version: its columns, statistics and versions."""
    with services.database.reading() as session:
        dataset = find_dataset(session, name)
        profile = dataset.profile or {}
        return DatasetDetail(
            **_view(dataset, services.settings).model_dump(),
            columns=profile.get("columns", []),
            target_columns=profile.get("targets", []),
            statistics=profile.get("statistics"),
            class_counts=profile.get("class_counts", []),
            versions=list_versions(session, dataset.name),
        )


def find_dataset(session: Session, name: str) -> Dataset:
    """The dataset of an address; 404 where there is none."""
    dataset = get_dataset(session, name)
    if dataset is None:
        known = (entry.name for entry in list_datasets(session))
        raise ProblemError(HTTPStatus.NOT_FOUND, unknown(name, known, "dataset"))
    return dataset


def _register(request: DatasetRequest, services: Services) -> tuple[Dataset, bool]:
    settings = services.settings
    with workspace(settings.dataset_dir.absolute()) as scratch:
        try:
            files, source = find_files("path", request.path, settings, scratch)
            if request.labels is not None:
                files = files + find_files("labels", request.labels, settings, scratch)[0]
        except DatasetError as error:
            raise invalid(FieldProblem("path", str(error))) from error
        selection = request.selection(request.labels)
        return register(services, request.name, files, selection, source=source, workspace=scratch)


def _registered(dataset: Dataset, response: Response, settings: Settings, *, created: bool) -> DatasetView:
    response.headers["Location"] = f"/v1/datasets/{quote(f'{dataset.name}@{dataset.version}', safe='@')}"
    if not created:
        response.status_code = HTTPStatus.OK
    return _view(dataset, settings)


def _view(dataset: Dataset, settings: Settings) -> DatasetView:
    """The dataset as the API shows it, with no path of the machine."""
    return DatasetView.model_validate(dataset).model_copy(update={"source": shown_source(dataset.source, settings)})
