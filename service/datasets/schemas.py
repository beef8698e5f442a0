"""Datasets as the API takes and shows them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from service.datasets.preparation.preparation import Selection
from service.datasets.readers.formats import FormatName
from workers.job.fields import AllowedText, StrictModel


def _one_segment(name: str) -> str:
    if "/" in name or name in {".", ".."}:
        raise ValueError("must not contain '/', nor be '.' or '..'")
    if re.search(r"@\d+$", name):
        raise ValueError("must not end in '@' and a number, which stand for a version")
    return name


ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
ClassName = Annotated[str, AllowedText, Field(max_length=200)]
FEATURES_HELP = (
    'Columns of the features, or patterns such as "pixel_*"; default: all but the label. Numbers, '
    "lists of as many numbers in each row, or tensors."
)
TARGETS_HELP = "Columns, or patterns of them, of numbers to predict, in place of a label."
CLASSES_HELP = (
    "Names of the classes in their order; default: those that CIFAR's archives have, or else the labels in ascending "
    "order."
)
SPLIT_HELP = (
    "Column that says of each row which part it belongs to, such as train and test: integers, booleans or text. It is "
    "no feature; the `split` of a job names its values."
)
PLACE_HELP = (
    "File or folder on the service's machine, below one of the directories from which it takes datasets, or an "
    "s3:// or gs:// address that it is set up to read."
)


class DatasetForm(StrictModel):
    """What a dataset is called, and what of the files is in it."""

    name: Annotated[str, AllowedText, AfterValidator(_one_segment)] = Field(
        min_length=1, max_length=200, description="Name under which jobs find it."
    )
    label: ColumnName | None = Field(
        None, description='Column of the class, integers or text; default: "label", unless there are targets.'
    )
    features: list[ColumnName] = Field([], max_length=1000, description=FEATURES_HELP)
    targets: list[ColumnName] = Field([], max_length=1000, description=TARGETS_HELP)
    classes: list[ClassName] = Field([], max_length=65536, description=CLASSES_HELP)
    split_column: ColumnName | None = Field(None, description=SPLIT_HELP)
    shape: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        [],
        max_length=3,
        description="[height, width] or [height, width, channels] of a row that is an image; default: by the files.",
    )
    format: FormatName | None = Field(None, description="Format of the files; default: by their names.")

    def selection(self, labels: str | None = None) -> Selection:
        """What of the files is the dataset; `labels` is the file that has its labels, if it is one of its own."""
        # An array has no name but its file's.
        default = PurePath(labels).stem if labels and labels.endswith(".npy") else "label"
        return Selection(
            label=None if self.targets else self.label or default,
            features=self.features or None,
            targets=self.targets,
            classes=self.classes or None,
            split=self.split_column,
            shape=self.shape or None,
            format=self.format,
        )


class DatasetRequest(DatasetForm):
    """A dataset to register."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "digits", "path": "digits.parquet", "label": "label"},
                {"name": "mnist", "path": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte.gz"},
                {"name": "sorted", "path": "sorted.csv", "label": "species", "split_column": "part"},
                {"name": "houses", "path": "houses.csv", "features": ["rooms", "area_*"], "targets": ["price"]},
            ]
        }
    )

    path: Annotated[str, AllowedText] = Field(min_length=1, max_length=4096, description=PLACE_HELP)
    labels: Annotated[str, AllowedText] | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="File with the labels, where they are in one of their own: IDX and .npy.",
    )


class UploadForm(DatasetForm):
    """A dataset whose file is the body of the request."""

    model_config = ConfigDict(strict=False)  # everything in an address is text

    # An address is no place for more: servers take some ten thousand characters.
    features: list[ColumnName] = Field([], max_length=32, description=FEATURES_HELP)
    targets: list[ColumnName] = Field([], max_length=32, description=TARGETS_HELP)
    classes: list[ClassName] = Field([], max_length=128, description=CLASSES_HELP)
    filename: Annotated[str, AllowedText] = Field(
        "upload", min_length=1, max_length=200, description="The file's name, by which its format is known."
    )


DIGITS: dict[str, JsonValue] = {
    "name": "digits",
    "version": 1,
    "digest": "9f2c66d2e2bd6cf3f2e0a8e3c5fd2c7f1b7f0e8e6d9f5c9a4f3e2d1c0b9a8f7e",
    "rows": 1797,
    "features": 64,
    "dtype": "uint8",
    "shape": None,
    "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    "targets": 0,
    "label": "label",
    "split_column": None,
    "splits": {},
    "format": "parquet",
    "source": "digits.parquet",
    "created_at": "2026-01-01T12:00:00Z",
}


class DatasetView(BaseModel):
    """A version of a dataset."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [DIGITS]})

    name: str
    version: int = Field(description="Jobs name this one as name@version; without it they get the newest.")
    digest: str = Field(description="SHA-256 of the content, whatever the format it came in.")
    rows: int
    features: int = Field(description="Numbers in a row.")
    dtype: str = Field(description="What the numbers are kept in: uint8, where all of them are such bytes, or float32.")
    shape: list[int] | None = Field(description="[height, width, channels] of a row that is an image.")
    classes: list[str]
    targets: int = Field(description="Numbers to predict for a row, where there are no classes.")
    label: str | None
    split_column: str | None
    splits: dict[str, int] = Field(description="Rows of each value of the split column, in the values' order.")
    format: str
    source: str = Field(description="The files, as seen from the directory from which they were taken.")
    created_at: datetime


class ColumnView(BaseModel):
    """A column of the source."""

    name: str
    type: str
    width: int = Field(description="Numbers in a row.")
    exact: bool = Field(description="Whether each of its numbers is kept as it was, and not the nearest of 32 bits.")


class StatisticsView(BaseModel):
    """Figures of each feature, in their order."""

    mean: list[float]
    std: list[float] = Field(description="Standard deviation over all rows.")
    min: list[float]
    max: list[float]


class VersionView(BaseModel):
    """Which version of a dataset has which content."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    digest: str
    rows: int
    created_at: datetime


class DatasetDetail(DatasetView):
    """A version of a dataset, and what was seen in its rows; datasets of before say nothing of these."""

    columns: list[ColumnView]
    target_columns: list[ColumnView]
    statistics: StatisticsView | None
    class_counts: list[int] = Field(description="Rows of each class, in the classes' order.")
    versions: list[VersionView] = Field(description="Every version of the dataset, the newest first.")


class DatasetList(BaseModel):
    """The newest version of every dataset, in order of name."""

    data: list[DatasetView]


class PreviewRow(BaseModel):
    """A row; it has a label or targets."""

    features: list[float]
    label: str | None
    targets: list[float]


class DatasetPreview(BaseModel):
    """The first rows of a dataset."""

    rows: list[PreviewRow]
