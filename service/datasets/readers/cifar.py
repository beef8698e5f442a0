"""The binary versions of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from service.datasets.files.opening import open_file
from service.datasets.readers.arrays import column_of, column_type
from service.datasets.readers.reader import Hints, Rows, rows_at_once
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HEIGHT, WIDTH, CHANNELS = 32, 32, 3


class CifarReader:
    """Records of one byte per column of `labels` and 3 x 32 x 32 bytes of an image, which becomes the column "image".

    The files keep the colours apart, all of red first; images here have the three values of a point side by side.
    """

    typed: ClassVar = True
    is_table: ClassVar = False
    hints: ClassVar = Hints()
    features: ClassVar = "image"

    def __init__(self, files: Sequence[Path], labels: Sequence[str]) -> None:
        self._files, self._labels = files, labels
        self._record = len(labels) + CHANNELS * HEIGHT * WIDTH
        for file in files:
            with open_file(file) as opened:
                size = os.fstat(opened.fileno()).st_size
            if size % self._record:
                raise DatasetError(
                    f"{file.name} has {size} bytes, which is not a multiple of the record size {self._record}"
                )
        image = column_type(np.dtype(np.uint8), (HEIGHT, WIDTH, CHANNELS))
        self.schema = pa.schema({"image": image} | dict.fromkeys(labels, pa.uint8()))

    def read(self, numbers: Sequence[str], categories: Sequence[str]) -> Iterator[Rows]:
        """The rows of all files."""
        columns = [*numbers, *categories]
        size = rows_at_once(self._record)
        for path in self._files:
            with open_file(path) as file:
                start = 0
                while content := file.read(size * self._record):
                    records = np.frombuffer(content, np.uint8).reshape(-1, self._record)
                    arrays = {name: records[:, index] for index, name in enumerate(self._labels)}
                    planes = records[:, len(self._labels) :].reshape(-1, CHANNELS, HEIGHT, WIDTH)
                    arrays["image"] = planes.transpose(0, 2, 3, 1)
                    batch = pa.record_batch([column_of(arrays[name]) for name in columns], names=columns)
                    yield Rows(batch, path.name, start)
                    start += len(records)
