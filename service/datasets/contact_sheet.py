"""Some images of a dataset in one picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from workers.data.dataset import DatasetError, open_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.data.dataset import DatasetInfo

IMAGES_IN_A_ROW = 10
MOST_CLASSES = 20
SEARCHED_ROWS = 100_000
SMALLEST, LARGEST = 32, 256  # sides of an image on the sheet
GAP = 2


def contact_sheet(info: DatasetInfo) -> bytes:
    """A PNG with one row of images per class, the first ones of each; without classes, or with many, the first images.

    Raises DatasetError if the rows are not images or the file cannot be read.
    """
    if info.shape is None:
        raise DatasetError("its rows are not images; images need a shape when they are registered")
    features, labels = open_dataset(info)
    first = labels[:SEARCHED_ROWS]
    if 0 < len(info.classes) <= MOST_CLASSES:
        rows = [np.flatnonzero(first == label)[:IMAGES_IN_A_ROW] for label in range(len(info.classes))]
    else:
        rows = np.array_split(np.arange(min(info.rows, IMAGES_IN_A_ROW**2)), IMAGES_IN_A_ROW)
    images = [[features[index].reshape(info.shape) for index in row] for row in rows]
    sheet = _sheet([[_tile(image) for image in row] for row in _in_bytes(images)])
    png = io.BytesIO()
    Image.fromarray(sheet).save(png, "png")
    return png.getvalue()


def _in_bytes(rows: list[list[NDArray[Any]]]) -> list[list[NDArray[np.uint8]]]:
    """The images as bytes, from black for the smallest number on the sheet (0 where it holds bytes) to white."""
    images = [image for row in rows for image in row]
    low = 0 if images[0].dtype == np.uint8 else min(image.min() for image in images)
    high = max(image.max() for image in images)
    scale = 255 / (float(high) - float(low)) if high > low else 0.0
    return [[((image.astype(np.float64) - low) * scale).round().astype(np.uint8) for image in row] for row in rows]


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width, 3), enlarged or reduced to a size that can be seen."""
    step = -(-max(image.shape[:2]) // LARGEST)
    seen = image[::step, ::step]
    coloured = seen if seen.shape[2] == 3 else np.repeat(seen[:, :, :1], 3, axis=2)
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
