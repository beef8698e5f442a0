"""The task that shows the first rows of a dataset."""

from __future__ import annotations

from typing import Any

from service.datasets.tasks.serving import serve
from workers.data.dataset import DatasetInfo, open_dataset

MOST_NUMBERS = 100_000  # of all rows together, about two megabytes of JSON


def run(info: dict[str, Any], rows: int) -> list[dict[str, Any]]:
    """The first rows as far as they have at most `MOST_NUMBERS` numbers, and of one row alone so many."""
    dataset = DatasetInfo.from_json(info)
    features, labels = open_dataset(dataset)
    shown = max(1, min(rows, dataset.rows, MOST_NUMBERS // (dataset.features + dataset.targets)))
    return [
        {
            "features": features[row, :MOST_NUMBERS].tolist(),
            "label": dataset.classes[labels[row]] if dataset.classes else None,
            "targets": [] if dataset.classes else labels[row, :MOST_NUMBERS].tolist(),
        }
        for row in range(shown)
    ]


if __name__ == "__main__":
    serve(run)
