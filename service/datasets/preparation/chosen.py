"""The columns of some files that are used, and how."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from core.names import listed
from service.datasets.preparation.columns import choose, is_text
from service.datasets.preparation.features import FeatureColumns
from service.datasets.preparation.kinds.feature import Way
from workers.data.dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.datasets.preparation.preparation import Selection
    from service.datasets.readers.reader import Reader

UNNAMED = re.compile(r"(Unnamed: \d+)?")  # without a name, or with the one that pandas gives


class ChosenColumns:
    """The columns that a selection chooses. Raises DatasetError for those that the files do not have."""

    def __init__(self, reader: Reader, selection: Selection) -> None:
        self.selection = selection
        names = reader.schema.names
        targets = choose(names, selection.targets)
        self.label = None if targets else selection.label
        known = set(names)
        for what, column in (("label", self.label), ("split", selection.split)):
            if column is not None and column not in known:
                raise DatasetError(f"has no {what} column {column!r}; its columns are {listed(names)}")
        if selection.split in {*targets, self.label} - {None}:
            raise DatasetError(f"column {selection.split!r} is to be predicted; it cannot be the split column as well")
        self._excluded = choose(names, selection.exclude)
        besides = [*targets, *(column for column in (self.label, selection.split) if column is not None)]
        features = choose(names, selection.features or [reader.features], [*besides, *self._excluded])
        if not features:
            raise DatasetError(f"has no feature column beside {', '.join(map(repr, [*besides, *self._excluded][:20]))}")
        as_category = set(choose(names, selection.categories))
        if others := as_category.difference(features):
            raise DatasetError(f"column {min(others)!r} is to have categories, but it is no feature")
        # Those that the request names itself are features whatever they look like.
        self.named = known & {*(selection.features or ()), *selection.categories}
        self.index: Mapping[str, str] = reader.hints.index
        if reader.is_table and UNNAMED.fullmatch(names[0]):
            self.index = {names[0]: "is the first column and has no name", **self.index}
        way, decimals = Way(typed=reader.typed, of_array=not reader.is_table), reader.hints.decimals
        self.features = FeatureColumns(
            {name: replace(way, decimal=decimals.get(name, "."), as_category=name in as_category) for name in features}
        )
        self.targets = FeatureColumns(
            {name: replace(way, decimal=decimals.get(name, "."), is_target=True) for name in targets}
        )
        # Text is read by its different values, of which there may be few.
        is_typed = reader.typed and reader.is_table
        texts = [
            name
            for name in features
            if (is_text(reader.schema.field(name).type) if is_typed else name in as_category and not reader.typed)
        ]
        self.categories = [*besides[len(targets) :], *texts]
        self.numbers = [name for name in [*features, *targets] if name not in set(texts)]

    def excluded(self, left_out: Mapping[str, str]) -> dict[str, str]:
        """Return all columns that are left out, and why."""
        return {**dict.fromkeys(self._excluded, "is excluded by the request"), **left_out}
