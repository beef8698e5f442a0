"""Endpoints that show what is in a dataset."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.datasets.contact_sheet import contact_sheet
from service.datasets.repository import snapshot_of
from service.datasets.routes import find_dataset
from service.datasets.schemas import DatasetPreview, PreviewRow
from service.http.dependencies import Services, ServicesDependency
from service.http.json_body import StrictJsonRoute
from service.http.problems import PROBLEM_RESPONSES, ProblemError
from workers.data.dataset import DatasetError, DatasetInfo, open_dataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)

PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}


@router.get("/{name}/preview", response_description="Some rows")
def preview_dataset(
    name: str,
    services: ServicesDependency,
    rows: Annotated[int, Query(ge=1, le=100, description="How many.")] = 5,
) -> DatasetPreview:
    """The first rows of a dataset, as they are kept."""
    info = _info(name, services)
    try:
        features, labels = open_dataset(info)
    except DatasetError as error:
        raise _unusable(name, error) from error
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


@router.get(
    "/{name}/contact-sheet",
    response_class=Response,
    response_description="The picture",
    responses={200: {"content": PNG}},
)
def picture_dataset(name: str, services: ServicesDependency) -> Response:
    """Some images of a dataset as one PNG, with a row for each class."""
    info = _info(name, services)
    try:
        return Response(contact_sheet(info), media_type="image/png")
    except DatasetError as error:
        raise _unusable(name, error) from error


def _info(name: str, services: Services) -> DatasetInfo:
    with services.database.reading() as session:
        return DatasetInfo.from_json(snapshot_of(find_dataset(session, name)))


def _unusable(name: str, error: DatasetError) -> ProblemError:
    return ProblemError(HTTPStatus.CONFLICT, f"{name!r} can not be shown: {error}.")
