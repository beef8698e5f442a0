"""The task that shows the first rows of a dataset."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from service.datasets.tasks.serving import serve
from workers.data.dataset import DatasetInfo, open_dataset

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NUMBERS = 100_000  # of all rows together, about two megabytes of JSON


def run(info: dict[str, Any], rows: int) -> list[dict[str, Any]]:
    """The first rows as far as they have at most `MOST_NUMBERS` numbers, and of one row alone so many."""
    dataset = DatasetInfo.from_json(info)
    features, labels = open_dataset(dataset)
    names = [column.categories for column in dataset.columns for _ in range(column.width)] or [()] * dataset.features
    shown = max(1, min(rows, dataset.rows, MOST_NUMBERS // (dataset.features + dataset.targets)))
    return [
        {
            "features": list(map(_shown, features[row, :MOST_NUMBERS].tolist(), names)),
            "label": dataset.classes[labels[row]] if dataset.classes else None,
            "targets": [] if dataset.classes else labels[row, :MOST_NUMBERS].tolist(),
        }
        for row in range(shown)
    ]


def _shown(value: float, categories: Sequence[str]) -> float | str | None:
    """A value as the table has it: a category by its name, and None for a missing one."""
    if math.isnan(value):
        return None
    return categories[int(value)] if categories else value


if __name__ == "__main__":
    serve(run)
