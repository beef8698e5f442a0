"""Class labels as positions in a table of scores."""

from functools import lru_cache

import numpy as np

from core.arrays import Array, Namespace, Shape


@lru_cache(maxsize=256)
def _row_starts(xp: Namespace, rows: int, columns: int) -> Array:
    starts: Array = xp.arange(rows, dtype=np.int64) * columns
    return starts


def locate(xp: Namespace, labels: Array, classes: int, out: Array) -> None:
    """Write into `out`, int64 (batch,), where entry `labels[i]` of row i lies in a (batch, classes) table."""
    xp.add(_row_starts(xp, len(labels), classes), labels, out=out)


def infer_loss_of_labels(name: str, scores: Shape, labels: Shape) -> Shape:
    """Return the shape of the losses, (batch,), for scores (batch, classes) and labels (batch,)."""
    if len(scores) != 2 or scores[1] < 2:
        raise ValueError(f"{name} needs scores of shape (batch, at least 2 classes), not {scores}")
    if labels != scores[:1]:
        raise ValueError(f"{name} needs labels of shape {scores[:1]} for scores of shape {scores}, not {labels}")
    return labels
