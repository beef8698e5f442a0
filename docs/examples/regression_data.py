"""Writes the datasets of docs/experiments.md as CSV files into a directory, and registers them.

python docs/examples/regression_data.py http://127.0.0.1:8000
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gradfleet import Client

ROWS, FEATURES = 600, 8
SHARES = (0, 5, 10, 20)  # % of the training rows whose target is an outlier


def column() -> list[dict[str, float | str]]:
    """Return ten numbers and an outlier. Mean: 15, median: 6. The validation row's target is 0.

    The feature is 0, so a linear layer predicts its bias, and the error of the validation row is the prediction.
    """
    rows = [{"x": 0, "y": y, "part": "train"} for y in (*range(1, 11), 110)]
    return [*rows, {"x": 0, "y": 0, "part": "validation"}]


def plane(share: int) -> list[dict[str, float | str]]:
    """Return rows of y = w x + noise. So many % of the training rows have 50 more; the validation rows have none."""
    random = np.random.default_rng(0)
    features = random.normal(size=(ROWS, FEATURES))
    targets = features @ np.arange(1, FEATURES + 1) / 2 + random.normal(size=ROWS)
    training = np.arange(ROWS) < ROWS * 2 // 3
    wrong = training & (random.permutation(ROWS).argsort() % 100 < share)
    targets[wrong] += 50
    return [
        {f"x{index}": value for index, value in enumerate(row)} | {"y": y, "part": "train" if train else "validation"}
        for row, y, train in zip(features.tolist(), targets.tolist(), training.tolist(), strict=True)
    ]


def copies() -> list[dict[str, float | str]]:
    """Return rows whose target is the first feature and noise; the other features are copies of it with noise."""
    random = np.random.default_rng(0)
    first = random.normal(size=ROWS)
    features = first[:, None] + random.normal(size=(ROWS, 4)) * [0, 0.3, 0.3, 0.3]
    targets = first + random.normal(size=ROWS)
    return [
        {f"x{index}": value for index, value in enumerate(row)} | {"y": y, "part": "train" if at % 3 else "validation"}
        for at, (row, y) in enumerate(zip(features.tolist(), targets.tolist(), strict=True))
    ]


def main(url: str) -> None:
    """Register the datasets `column`, `copies` and `plane-0` to `plane-20` with the service at `url`."""
    datasets = {"column": column(), "copies": copies()} | {f"plane-{share}": plane(share) for share in SHARES}
    with TemporaryDirectory() as directory, Client(url) as client:
        for name, rows in datasets.items():
            path = Path(directory, f"{name}.csv")
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
            client.upload_dataset(name, path, targets=["y"], split_column="part")


if __name__ == "__main__":
    main(*sys.argv[1:])
