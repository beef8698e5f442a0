"""The demo's data: handwritten digits, with and without wrong labels in the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.cli.demo import experiment
from workers.data.splitting import split, validation_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.client import Client

CLASSES = 10
SEED = 0  # of the wrong labels


def register_digits(client: Client, directory: Path) -> None:
    """Write the datasets of the experiment into a directory that the service can read, and register them."""
    for share, name in experiment.MISLABELLED.items():
        path = directory.absolute() / f"{name}.parquet"
        write_digits(path, mislabelled=share, validation=experiment.VALIDATION, seeds=experiment.SEEDS)
        client.register_dataset(name, path, "label")


def write_digits(path: Path, *, mislabelled: float = 0, validation: float, seeds: Sequence[int]) -> Path:
    """Write scikit-learn's digits to a Parquet file, as images, with wrong labels in a share of the training rows.

    Rows that a job with this share of validation rows and any of these seeds validates on keep their true labels.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415
    from sklearn.datasets import load_digits  # noqa: PLC0415

    digits = load_digits()
    images = np.ascontiguousarray(digits.images[..., None].astype(np.uint8))
    pixels = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    labels = mislabel(digits.target, mislabelled, validation=validation, seeds=seeds)
    pq.write_table(pa.table({"pixels": pixels, "label": pa.array(labels)}), path)
    return path


def mislabel(labels: NDArray[np.int64], share: float, *, validation: float, seeds: Sequence[int]) -> NDArray[np.int64]:
    """Return a copy of the labels, shape (rows,), in which a share of the training rows has a random other class.

    A row is changed only if no job with one of the seeds validates on it. A larger share changes the rows of a smaller
    one, and more. Raises ValueError if there are too few such rows.
    """
    changeable = np.ones(len(labels), np.bool_)
    for seed in seeds:
        changeable[split(len(labels), validation, seed)[1]] = False
    count = round(share * (len(labels) - validation_rows(len(labels), validation)))
    random = np.random.default_rng(SEED)
    order = random.permutation(np.flatnonzero(changeable))
    if count > len(order):
        raise ValueError(f"{count} rows cannot be mislabelled: only {len(order)} are training rows with every seed")
    steps = random.integers(1, CLASSES, len(order))
    changed = labels.copy()
    changed[order[:count]] = (labels[order[:count]] + steps[:count]) % CLASSES
    return changed
