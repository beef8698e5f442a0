"""Endpoints of datasets."""

import os
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from service.datasets.repository import NameTakenError, add_dataset, get_dataset, list_datasets
from service.dependencies import ServicesDependency
from service.field_errors import unknown
from service.idempotency import IDEMPOTENT
from service.json_body import StrictJsonRoute
from service.problems import PROBLEM_RESPONSES, ProblemError, invalid
from service.settings import Settings
from service.store.models import Dataset
from workers.dataset import DatasetError, prepare_parquet
from workers.fields import AllowedText, StrictModel
from workers.resolve import FieldProblem

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictJsonRoute, responses=PROBLEM_RESPONSES)


# Which directories they are is not for everybody who may ask.
PLACE = "give a path as seen from the service's uploads, or from one of the directories of its setting data_roots"


def _one_segment(name: str) -> str:
    if "/" in name or name in {".", ".."}:
        raise ValueError("must not contain '/', nor be '.' or '..'")
    return name


class DatasetRequest(StrictModel):
    """A dataset to register."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "digits", "path": "digits.parquet", "label": "label"}]}
    )

    name: Annotated[str, AllowedText, AfterValidator(_one_segment)] = Field(
        min_length=1, max_length=200, description="Name under which jobs find it."
    )
    path: Annotated[str, AllowedText] = Field(
        min_length=1,
        max_length=4096,
        description="Parquet file on the service's machine, below one of the directories from which it takes datasets.",
    )
    label: str = Field(min_length=1, max_length=200, description="Column of the class; every other one is a feature.")


DIGITS: dict[str, JsonValue] = {
    "name": "digits",
    "digest": "9f2c66d2e2bd6cf3f2e0a8e3c5fd2c7f1b7f0e8e6d9f5c9a4f3e2d1c0b9a8f7e",
    "rows": 1797,
    "features": 64,
    "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "label": "label",
    "source": "gradfleet-data/uploads/digits.parquet",
    "created_at": "2026-01-01T12:00:00Z",
}


class DatasetView(BaseModel):
    """A registered dataset."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [DIGITS]})

    name: str
    digest: str = Field(description="SHA-256 of the content.")
    rows: int
    features: int
    classes: list[str]
    label: str
    source: str = Field(description="The file, as seen from the directory from which it was taken.")
    created_at: datetime


class DatasetList(BaseModel):
    """Every dataset, in order of name."""

    data: list[DatasetView]


LOCATION = {"headers": {"Location": {"description": "Path of the dataset.", "schema": {"type": "string"}}}}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    dependencies=[IDEMPOTENT],
    response_description="The dataset",
    responses={201: LOCATION, 200: LOCATION | {"model": DatasetView, "description": "The dataset, which was there"}},
)
def register_dataset(request: DatasetRequest, response: Response, services: ServicesDependency) -> DatasetView:
    """Check a Parquet file and register it under a name; the same name and content again gives the same dataset."""
    source = _find_source(request.path, services.settings.allowed_roots)
    try:
        info = prepare_parquet(source, services.settings.dataset_dir.absolute(), request.label)
    except DatasetError as error:
        raise invalid(FieldProblem("path", str(error))) from error
    try:
        with services.database.writing() as session:
            dataset, created = add_dataset(
                session, name=request.name, label=request.label, source=str(source), info=info
            )
            view = _view(dataset, services.settings)
    except NameTakenError:
        message = f"name: {request.name!r} is taken by a dataset with other content; choose another name"
        raise ProblemError(
            HTTPStatus.CONFLICT, message, errors=[FieldProblem("name", message.removeprefix("name: "))]
        ) from None
    response.headers["Location"] = f"/v1/datasets/{quote(request.name, safe='')}"
    if not created:
        response.status_code = HTTPStatus.OK
    return view


@router.get("", response_description="All datasets")
def get_datasets(services: ServicesDependency) -> DatasetList:
    """Every dataset."""
    with services.database.reading() as session:
        return DatasetList(data=[_view(dataset, services.settings) for dataset in list_datasets(session)])


@router.get("/{name}", response_description="The dataset")
def get_one_dataset(name: str, services: ServicesDependency) -> DatasetView:
    """One dataset."""
    with services.database.reading() as session:
        dataset = get_dataset(session, name)
        if dataset is None:
            known = (entry.name for entry in list_datasets(session))
            raise ProblemError(HTTPStatus.NOT_FOUND, unknown(name, known, "dataset"))
        return _view(dataset, services.settings)


def _view(dataset: Dataset, settings: Settings) -> DatasetView:
    """The dataset as the API shows it, with no path of the machine."""
    source = Path(dataset.source)
    # Of a directory from which datasets are no longer taken, the file's name is left.
    below = [source.relative_to(root) for root in map(_resolve, settings.allowed_roots) if source.is_relative_to(root)]
    return DatasetView.model_validate(dataset).model_copy(update={"source": str(below[0] if below else source.name)})


def _find_source(path: str, roots: list[Path]) -> Path:
    """The file, with every link followed; a problem unless it lies below one of `roots`."""
    # A relative path is one below a root; an absolute one replaces it.
    below = [candidate for root in map(_resolve, roots) if (candidate := _resolve(root / path)).is_relative_to(root)]
    if not below:
        raise invalid(FieldProblem("path", f"{path!r} is outside the directories for datasets; {PLACE}"))
    for candidate in below:
        if os.path.isfile(candidate):  # noqa: PTH113 - Path.is_file raises on names that no file can have
            return candidate
    raise invalid(FieldProblem("path", f"{path!r} is not a file there; {PLACE}"))


def _resolve(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises on links that form a loop
