"""Columns that a model reads as indices and that the `data` section of its spec changes to other numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.graph.indices import NO_COLUMN, columns_of, index_reads
from core.tables.treatments import CategoryTreatment, NumberTreatment
from workers.job.data import scale_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from core import Graph
    from core.tables.treatments import Treatment
    from workers.job.spec import DataSpec


@dataclass(frozen=True)
class ChangedIndices:
    """The columns that a layer reads as indices and that a field of the spec changes."""

    field: str
    node: str
    columns: NDArray[np.int64]


@dataclass(frozen=True)
class FewEntries:
    """A layer that reads indices below `limit` from a column of categories that has more indices."""

    node: str
    limit: int
    name: str
    indices: int


def changed_indices(
    data: DataSpec, graph: Graph, features: int, treatments: Sequence[Treatment] = ()
) -> Iterator[ChangedIndices]:
    """Yield the layers whose indices come, directly or through other layers, from columns that the job changes.

    Standardization and scaling change integers to fractions, and so do the steps by which numbers are prepared.
    Augmentation moves pixels, so that a layer that reads only some of them gets others. A layer whose indices depend on
    several columns at once is left out.
    """
    reads = index_reads(graph)
    every = columns_of(graph) if reads else {}
    fractions = np.flatnonzero([fraction for treatment in treatments for fraction in _fractions(treatment)])
    for read in reads:
        columns = np.setdiff1d(every[read.source], [NO_COLUMN])
        if treatments:
            found = [("data.prepare", np.intersect1d(columns, fractions))]
        else:
            found = list(_changed(data, columns, features))
        for field, changed in found:
            if len(changed):
                yield ChangedIndices(field, read.node, changed)


def layers_with_few_entries(graph: Graph, treatments: Sequence[Treatment]) -> Iterator[FewEntries]:
    """Yield the layers that read the indices of categories and do not have an entry for each, or none for others."""
    starts = np.cumsum([0, *(treatment.width for treatment in treatments)])
    indexed = {
        int(start): treatment
        for start, treatment in zip(starts, treatments, strict=False)
        if isinstance(treatment, CategoryTreatment) and treatment.encode == "index"
    }
    every = columns_of(graph) if indexed else {}
    for read in index_reads(graph) if indexed else ():
        for column in np.unique(every[read.source]).tolist():
            treatment = indexed.get(column)
            if treatment is not None and read.limit <= len(treatment.column.categories):
                name, indices = treatment.column.name, len(treatment.column.categories) + 1
                yield FewEntries(read.node, read.limit, name, indices)


def _fractions(treatment: Treatment) -> list[bool]:
    """Which of the prepared numbers of a column may have fractions where the dataset has integers."""
    if not isinstance(treatment, NumberTreatment):
        return [False] * treatment.width
    imputed = treatment.impute if bool(treatment.column.missing) else 0.0
    whole = imputed == "most_frequent" or (not isinstance(imputed, str) and imputed == np.floor(imputed))
    changed = treatment.scale != "none" or treatment.log or not whole
    own = treatment.column.width
    return [changed] * own + [False] * (treatment.width - own)


def _changed(data: DataSpec, columns: NDArray[np.int64], features: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
    if data.standardize:
        yield "data.standardize", columns
    if data.scale is not None:
        subtract, divide = (numbers[columns] for numbers in scale_numbers(data.scale, features))
        yield "data.scale", columns[(divide != 1) | (subtract != np.floor(subtract))]
    if data.augmentation and len(columns) < features:
        yield "data.augmentation", columns
