"""REST endpoints of datasets."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.datasets.examples import EXAMPLES
from service.datasets.files.places import shown_source
from service.datasets.files.uploading import MEDIA_TYPE, check_media_type, receive_file
from service.datasets.files.workspace import workspace
from service.datasets.preview import first_rows, images
from service.datasets.registration import register, register_upload, uploaded_name
from service.datasets.repository import find_dataset, list_datasets, list_versions, located, snapshot_of
from service.datasets.runners import TaskRunners, runners_of
from service.datasets.schemas import (
    DatasetDetail,
    DatasetList,
    DatasetPreview,
    DatasetRequest,
    DatasetView,
    ExampleList,
    ExampleView,
    RegisteredDataset,
    UploadForm,
)
from service.http.dependencies import Services, ServicesDependency
from service.http.idempotency import IDEMPOTENT, created_responses, set_location
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES, FieldProblemView
from service.settings import Settings
from service.store.models import Dataset
from workers.data.dataset import DatasetInfo

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

examples_router = APIRouter(
    prefix="/v1/examples", tags=["datasets"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES
)

RunnersDependency = Annotated[TaskRunners, Depends(runners_of)]

UPLOAD_PATH = "/v1/datasets/upload"

REGISTERED = created_responses(RegisteredDataset, "version", "The version that exists with this content")
PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    dependencies=[IDEMPOTENT],
    response_description="The version",
    responses=REGISTERED,
)
async def register_dataset(
    form: DatasetRequest, request: Request, response: Response, services: ServicesDependency, runners: RunnersDependency
) -> RegisteredDataset:
    """Check files that the service can read, or an example, and register them under a name.

    Supported formats: Parquet (a file or a folder), Arrow, CSV, JSON, ORC, Excel, .npy and .npz, IDX, and CIFAR's
    binary format; also gzipped, and in a .zip or .tar. The same content in any format is the same version; other
    content is the next version.
    """
    runners.check_room()
    async with runners.registrations:
        dataset, created = await runners.run(request, lambda runner: register(services, runner, form))
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
    request: Request,
    form: Annotated[UploadForm, Query()],
    response: Response,
    services: ServicesDependency,
    runners: RunnersDependency,
) -> RegisteredDataset:
    """Check the file in the body and register it under a name."""
    settings = services.settings
    runners.check_room()
    name = uploaded_name(form.filename)
    with workspace(settings.dataset_dir.absolute()) as scratch:
        file = scratch / "uploaded" / name
        file.parent.mkdir()
        await receive_file(request, file, max_bytes=settings.max_upload_bytes, max_seconds=settings.max_body_seconds)
        async with runners.registrations:  # a client that has sent its file waits instead of getting an error
            dataset, created = await runners.run(request, lambda runner: register_upload(services, runner, form, file))
    return _registered(dataset, response, settings, created=created)


@examples_router.get("", response_description="All examples")
def get_examples() -> ExampleList:
    """List the datasets that scikit-learn brings, which `register_dataset` registers by name."""
    views = [ExampleView.model_validate({"name": name, **vars(each)}) for name, each in EXAMPLES.items()]
    return ExampleList(data=views)


@router.get("", response_description="All datasets")
def get_datasets(services: ServicesDependency) -> DatasetList:
    """List all datasets, each in its newest version."""
    with services.database.reading() as session:
        return DatasetList(data=[_view(dataset, services.settings) for dataset in list_datasets(session)])


@router.get("/{name}", response_description="The dataset")
def get_one_dataset(name: str, services: ServicesDependency) -> DatasetDetail:
    """Get a dataset with its columns, statistics and versions: its newest version, or the version of name@version."""
    with services.database.reading() as session:
        dataset = find_dataset(session, name)
        profile = dataset.profile
        return DatasetDetail(
            **_view(dataset, services.settings).model_dump(),
            columns=profile["columns"],
            left_out=profile.get("left_out", []),
            recognized=profile.get("recognized", []),
            target_columns=profile["targets"],
            statistics=profile["statistics"],
            warnings=_warnings(dataset),
            class_counts=profile["class_counts"],
            versions=list_versions(session, dataset.name),
        )


@router.get("/{name}/preview", response_description="Some rows")
async def preview_dataset(
    name: str,
    request: Request,
    services: ServicesDependency,
    runners: RunnersDependency,
    rows: Annotated[int, Query(ge=1, le=100, description="Number of rows.")] = 5,
) -> DatasetPreview:
    """Get the first rows of a dataset, as they are stored."""
    info = await run_in_threadpool(_info, name, services)
    async with runners.previews:
        return await runners.run(request, lambda runner: first_rows(runner, name, info, rows))


@router.get(
    "/{name}/contact-sheet",
    response_class=Response,
    response_description="The picture",
    responses={200: {"content": PNG}},
)
async def picture_dataset(
    name: str, request: Request, services: ServicesDependency, runners: RunnersDependency
) -> Response:
    """Get some images of a dataset as one PNG, with one row per class."""
    info = await run_in_threadpool(_info, name, services)
    async with runners.previews:
        png = await runners.run(request, lambda runner: images(runner, name, info))
    return Response(png, media_type="image/png")


def _info(name: str, services: Services) -> DatasetInfo:
    with services.database.reading() as session:
        return DatasetInfo.from_json(located(snapshot_of(find_dataset(session, name)), services.settings))


def _registered(dataset: Dataset, response: Response, settings: Settings, *, created: bool) -> RegisteredDataset:
    location = f"/v1/datasets/{quote(f'{dataset.name}@{dataset.version}', safe='@')}"
    set_location(response, location, created=created)
    return RegisteredDataset(**_view(dataset, settings).model_dump(), warnings=_warnings(dataset))


def _warnings(dataset: Dataset) -> list[FieldProblemView]:
    """The warnings about a version; one that an older service registered has none."""
    return [FieldProblemView(**warning) for warning in dataset.profile.get("warnings", [])]


def _view(dataset: Dataset, settings: Settings) -> DatasetView:
    """The dataset as the API returns it, without paths of the machine."""
    return DatasetView.model_validate(dataset).model_copy(
        update={"source": shown_source(dataset.source, settings.data_dir, settings.allowed_roots)}
    )
