"""Datasets as the API accepts and returns them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, JsonValue, model_validator

from service.datasets.examples import EXAMPLES, ExampleName
from service.datasets.preparation.preparation import Selection
from service.datasets.readers.formats import FormatName
from service.http.problems import FieldProblemView
from workers.job.fields import AllowedText, FieldValueError, StrictModel


def _one_segment(name: str) -> str:
    if "/" in name or name in {".", ".."}:
        raise ValueError("must not contain '/', nor be '.' or '..'")
    if re.search(r"@\d+$", name):
        raise ValueError("must not end in '@' and a number, which denotes a version")
    return name


ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
ClassName = Annotated[str, AllowedText, Field(max_length=200)]
FEATURES_HELP = (
    'Columns of the features, or patterns such as "pixel_*"; default: all but the label and those that number or name '
    "the rows. Numbers, text, booleans, dates, lists of the same length in each row, or tensors."
)
TARGETS_HELP = "Columns of numbers to predict, or patterns of them, instead of a label."
CATEGORIES_HELP = "Columns of integers, or patterns of them, whose values are categories, such as codes."
EXCLUDE_HELP = "Columns that are left out, or patterns of them."
CLASSES_HELP = (
    "Names of the classes in order; default: those in CIFAR's archives, or else the labels in ascending order."
)
SPLIT_HELP = (
    "Column with the part that each row belongs to, such as train and test: integers, booleans or text. It is not a "
    "feature; the `split` of a job names its values."
)
PLACE_HELP = (
    "File or folder on the service's machine, in one of the directories allowed for datasets, or an s3:// or gs:// "
    "address that the service is configured to read."
)


class DatasetForm(StrictModel):
    """Name of a dataset, and the parts of its files that are used."""

    name: Annotated[str, AllowedText, AfterValidator(_one_segment)] = Field(
        min_length=1, max_length=200, description="Name by which jobs refer to it."
    )
    label: ColumnName | None = Field(
        None, description='Column of the class, integers, booleans or text; default: "label" unless there are targets.'
    )
    features: list[ColumnName] = Field([], max_length=1000, description=FEATURES_HELP)
    targets: list[ColumnName] = Field([], max_length=1000, description=TARGETS_HELP)
    classes: Annotated[list[ClassName], FailFast()] = Field([], max_length=65536, description=CLASSES_HELP)
    categories: list[ColumnName] = Field([], max_length=1000, description=CATEGORIES_HELP)
    exclude: list[ColumnName] = Field([], max_length=1000, description=EXCLUDE_HELP)
    split_column: ColumnName | None = Field(None, description=SPLIT_HELP)
    shape: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        [],
        max_length=3,
        description="[height, width] or [height, width, channels] of rows that are images; default: from the files.",
    )
    format: FormatName | None = Field(None, description="Format of the files; default: from their names.")

    @model_validator(mode="after")
    def _classes_or_numbers(self) -> Self:
        for field, given in (("label", self.label), ("classes", self.classes)):
            if self.targets and given:
                raise FieldValueError(
                    field,
                    "cannot be given beside targets: a dataset has either one column of classes, its label, or columns "
                    "of numbers to predict, its targets",
                )
        return self

    def selection(self, labels: str | None = None) -> Selection:
        """The parts of the files that are used; `labels` is a separate file of labels, if there is one."""
        # An array has only the name of its file.
        array = re.fullmatch(r"(.+)\.npy(\.gz)?", PurePath(labels or "").name, re.IGNORECASE)
        default = array[1] if array else "label"
        return Selection(
            label=None if self.targets else self.label or default,
            features=self.features or None,
            targets=self.targets,
            classes=self.classes or None,
            categories=self.categories,
            exclude=self.exclude,
            split=self.split_column,
            shape=self.shape or None,
            format=self.format,
        )


class DatasetRequest(DatasetForm):
    """A dataset to register."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "digits", "example": "digits"},
                {"name": "digits", "path": "digits.parquet", "label": "label"},
                {"name": "mnist", "path": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte.gz"},
                {"name": "sorted", "path": "sorted.csv", "label": "species", "split_column": "part"},
                {"name": "houses", "path": "houses.csv", "features": ["rooms", "area_*"], "targets": ["price"]},
            ]
        }
    )

    path: Annotated[str, AllowedText] | None = Field(None, min_length=1, max_length=4096, description=PLACE_HELP)
    example: ExampleName | None = Field(
        None, description="Instead of a path: a dataset that scikit-learn brings. Only its name can be chosen."
    )
    labels: Annotated[str, AllowedText] | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Separate file with the labels, for IDX and .npy.",
    )

    @model_validator(mode="after")
    def _files_or_example(self) -> Self:
        if self.example is None and self.path is None:
            raise FieldValueError(
                "path", f"is missing: give the path of files, or as `example` one of {', '.join(EXAMPLES)}"
            )
        if self.example is not None:
            given = [
                name for name in type(self).model_fields if getattr(self, name) and name not in {"name", "example"}
            ]
            if given:
                raise FieldValueError(
                    given[0], "cannot be given beside example: an example is registered with its own columns"
                )
        return self


class UploadForm(DatasetForm):
    """A dataset whose file is the body of the request."""

    model_config = ConfigDict(strict=False)  # query parameters are text

    # Servers limit addresses to about ten thousand characters.
    features: list[ColumnName] = Field([], max_length=32, description=FEATURES_HELP)
    targets: list[ColumnName] = Field([], max_length=32, description=TARGETS_HELP)
    classes: Annotated[list[ClassName], FailFast()] = Field([], max_length=128, description=CLASSES_HELP)
    categories: list[ColumnName] = Field([], max_length=32, description=CATEGORIES_HELP)
    exclude: list[ColumnName] = Field([], max_length=32, description=EXCLUDE_HELP)
    filename: Annotated[str, AllowedText] = Field(
        "upload", min_length=1, max_length=200, description="Name of the file, from which its format is inferred."
    )


DIGITS: dict[str, JsonValue] = {
    "name": "digits",
    "version": 1,
    "digest": "9f2c66d2e2bd6cf3f2e0a8e3c5fd2c7f1b7f0e8e6d9f5c9a4f3e2d1c0b9a8f7e",
    "rows": 1797,
    "features": 64,
    "dtype": "uint8",
    "shape": [8, 8, 1],
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
    version: int = Field(description="Jobs refer to it as name@version; without the version they get the newest one.")
    digest: str = Field(description="SHA-256 of the content, independent of the format of the files.")
    rows: int
    features: int = Field(description="Numbers per row.")
    dtype: str = Field(
        description="Type in which the numbers are stored: uint8 if all of them are bytes, else float32."
    )
    shape: list[int] | None = Field(description="[height, width, channels] of rows that are images.")
    classes: list[str]
    targets: int = Field(description="Numbers to predict per row, if there are no classes.")
    label: str | None
    split_column: str | None
    splits: dict[str, int] = Field(description="Rows of each value of the split column, in the values' order.")
    format: str
    source: str = Field(description="Path of the files within the directory for datasets, or their address.")
    created_at: datetime


class RegisteredDataset(DatasetView):
    """A version of a dataset that was registered."""

    warnings: list[FieldProblemView] = Field(description="What is allowed but may be a mistake.")


class ColumnView(BaseModel):
    """A column of the source."""

    name: str
    type: str
    kind: str = Field("number", description="number, category or date; a date is stored as the numbers of its parts.")
    width: int = Field(description="Numbers per row.")
    exact: bool = Field(
        description="Whether all its numbers are stored exactly; otherwise they are rounded to 32 bits."
    )
    examples: list[str] = Field([], description="Its first values that are different.")
    distinct: int | None = Field(None, description="Different values; None for more than 1,000 numbers, and for lists.")
    missing: int = Field(0, description="Rows without a value.")


class LeftOutView(BaseModel):
    """A column of the source that is no feature."""

    name: str
    reason: str


class StatisticsView(BaseModel):
    """Statistics of each feature, in the order of the features; None for categories."""

    mean: list[float | None]
    std: list[float | None] = Field(description="Standard deviation over all rows with a value.")
    min: list[float | None]
    max: list[float | None]


class VersionView(BaseModel):
    """A version of a dataset and its content."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    digest: str
    rows: int
    created_at: datetime


class DatasetDetail(DatasetView):
    """A version of a dataset with its columns, statistics and other versions."""

    columns: list[ColumnView]
    left_out: list[LeftOutView] = Field(description="Columns that are no features, and why.")
    recognized: list[str] = Field(description="What was recognised of the form of the files, such as their encoding.")
    target_columns: list[ColumnView]
    statistics: StatisticsView | None = Field(description="None for more than 65,536 features.")
    warnings: list[FieldProblemView] = Field(description="What is allowed but may be a mistake.")
    class_counts: list[int] = Field(description="Rows of each class, in the order of the classes.")
    versions: list[VersionView] = Field(description="All versions of the dataset, newest first.")


class ExampleView(BaseModel):
    """A dataset that scikit-learn brings, and that can be registered by name."""

    name: ExampleName
    description: str
    rows: int
    features: int = Field(description="Numbers per row.")
    classes: list[str] = Field(description="Empty if there is a number to predict.")
    shape: list[int] | None = Field(description="[height, width] of rows that are images.")


class ExampleList(BaseModel):
    """All datasets that can be registered by name."""

    data: list[ExampleView]


class DatasetList(BaseModel):
    """The newest version of every dataset, in order of name."""

    data: list[DatasetView]


class PreviewRow(BaseModel):
    """A row; it has a label or targets."""

    features: list[float | str | None] = Field(
        description="Its numbers, and the names of its categories; None where one is missing. Of more than 100,000 the "
        "first ones."
    )
    label: str | None
    targets: list[float]


class DatasetPreview(BaseModel):
    """The first rows of a dataset."""

    rows: list[PreviewRow] = Field(description="Rows that have at most 100,000 numbers together, and at least one.")
