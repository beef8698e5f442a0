"""Columns that a model reads as indices and that the `data` section of its spec changes to other numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.graph.indices import NO_COLUMN, columns_of, index_reads
from workers.job.data import scale_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from core import Graph
    from workers.job.spec import DataSpec


@dataclass(frozen=True)
class ChangedIndices:
    """The columns that a layer reads as indices and that a field of the spec changes."""

    field: str
    node: str
    columns: NDArray[np.int64]


def changed_indices(data: DataSpec, graph: Graph, features: int) -> Iterator[ChangedIndices]:
    """Yield the layers whose indices come, directly or through other layers, from columns that the job changes.

    Standardization and scaling change integers to fractions. Augmentation moves pixels, so that a layer that reads only
    some of them gets others. A layer whose indices depend on several columns at once is left out.
    """
    reads = index_reads(graph)
    every = columns_of(graph) if reads else {}
    for read in reads:
        columns = np.setdiff1d(every[read.source], [NO_COLUMN])
        for field, changed in _changed(data, columns, features):
            if len(changed):
                yield ChangedIndices(field, read.node, changed)


def _changed(data: DataSpec, columns: NDArray[np.int64], features: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    if data.standardize:
        yield "data.standardize", columns
    if data.scale is not None:
        subtract, divide = (numbers[columns] for numbers in scale_numbers(data.scale, features))
        yield "data.scale", columns[(divide != 1) | (subtract != np.floor(subtract))]
    if data.augmentation and len(columns) < features:
        yield "data.augmentation", columns
