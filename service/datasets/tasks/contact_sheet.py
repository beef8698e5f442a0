"""The task that shows some images of a dataset in one picture."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from service.datasets.tasks.serving import serve
from workers.data.dataset import DatasetError, DatasetInfo, open_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES_IN_A_ROW = 10
MOST_CLASSES = 20
SEARCHED_ROWS = 100_000
SMALLEST, LARGEST = 32, 128  # sides of an image on the sheet
GAP = 2


def run(info: dict[str, Any]) -> str:
    """A PNG as base64, with one row of images per class, the first ones of each.

    Without classes, or with many, it has the first images. Raises DatasetError if the rows are not images or the
    file cannot be read.
    """
    dataset = DatasetInfo.from_json(info)
    if dataset.shape is None:
        raise DatasetError("its rows are not images; images need a shape when they are registered")
    features, labels = open_dataset(dataset)
    first = labels[:SEARCHED_ROWS]
    if 0 < len(dataset.classes) <= MOST_CLASSES:
        rows = [np.flatnonzero(first == label)[:IMAGES_IN_A_ROW] for label in range(len(dataset.classes))]
    else:
        rows = np.array_split(np.arange(min(dataset.rows, IMAGES_IN_A_ROW**2)), IMAGES_IN_A_ROW)
    images = [[_reduced(features[index].reshape(dataset.shape)) for index in row] for row in rows]
    sheet = _sheet([[_tile(image) for image in row] for row in _in_bytes(images)])
    png = io.BytesIO()
    Image.fromarray(sheet).save(png, "png")
    return base64.b64encode(png.getvalue()).decode()


def _reduced(image: NDArray[Any]) -> NDArray[Any]:
    """An image (height, width, channels), of which some rows and columns are left out if it is large."""
    step = -(-max(image.shape[:2]) // LARGEST)
    return image[::step, ::step]


def _in_bytes(rows: list[list[NDArray[Any]]]) -> list[list[NDArray[np.uint8]]]:
    """The images as bytes, from black for the smallest number on the sheet (0 where it holds bytes) to white."""
    images = [image for row in rows for image in row]
    low = 0 if images[0].dtype == np.uint8 else min(image.min() for image in images)
    high = max(image.max() for image in images)
    scale = 255 / (float(high) - float(low)) if high > low else 0.0
    return [[((image.astype(np.float64) - low) * scale).round().astype(np.uint8) for image in row] for row in rows]


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width, 3), enlarged to a size that can be seen."""
    coloured = image if image.shape[2] == 3 else np.repeat(image[:, :, :1], 3, axis=2)
    times = max(1, SMALLEST // max(coloured.shape[:2]))
    return coloured.repeat(times, axis=0).repeat(times, axis=1)


def _sheet(rows: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    height, width, _ = next(tile for row in rows for tile in row).shape
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for down, row in enumerate(rows):
        for right, tile in enumerate(row):
            top, left = down * (height + GAP), right * (width + GAP)
            sheet[top : top + height, left : left + width] = tile
    return sheet


if __name__ == "__main__":
    serve(run)
