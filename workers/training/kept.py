"""The metrics of the parameters that are kept, on all validation rows, at the end of training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from core.metrics.labels.counts import confusion, per_label
from workers.training.evaluation import ShardEvaluation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.data.rows import Batches
    from workers.data.splitting import Rows
    from workers.exchange.vectors import Vector
    from workers.job.computation import Computation
    from workers.training.runtime import Runtime

# Predictions, all outputs counted, that are kept in memory for the metrics that depend on the order of all rows. With
# more, these metrics are left out.
MOST_RANKED = 2**28
# Confusion counts that are reported, those of 256 classes.
MOST_COUNTS = 2**16
# Targets up to which the figures of each one are reported.
MOST_TARGETS = 2**16


def evaluate_kept(
    computation: Computation, runtime: Runtime, parameters: Vector, batches: Batches, rows: Rows
) -> tuple[dict[str, float], dict[str, Any]]:
    """Compute all metrics of the job on `rows`, by name, and details as JSON; empty where there are no rows.

    The details of labels are `confusion`, the number of rows by true and predicted label, with a table of two for each
    label of a multilabel job, and `per_label`, lists of precision, recall, F1 and number of rows. Those of targets are
    `per_target`, lists of the figures of each target, None where one is not finite.

    One worker alone does this. It computes the same shards as all workers do after an epoch, so the bits are the same.
    """
    if not len(rows):
        return {}, {}
    metrics = computation.metrics
    evaluation = ShardEvaluation(computation, runtime, parameters, rows, range(computation.shards))
    ranked = metrics.task != "regression" and len(rows) * metrics.outputs <= MOST_RANKED
    predictions = np.empty((len(rows), metrics.outputs), np.float32) if ranked else None
    evaluation.run(batches, predictions)
    values, details = evaluation.values(), dict[str, Any]()
    if predictions is not None:
        truth = batches.truth[rows]
        values |= {f"val/{metric.type}": metric.value(predictions, truth) for metric in metrics.ranking}
        details = _counts(predictions, truth)
    elif metrics.task == "regression" and metrics.outputs <= MOST_TARGETS:
        details = {"per_target": {name: list(map(_finite, each)) for name, each in evaluation.per_target().items()}}
    return values, details


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _counts(predictions: NDArray[Any], truth: NDArray[Any]) -> dict[str, Any]:
    """The confusion counts, if there are not too many, and the figures of each label."""
    counts = confusion(predictions, truth)
    figures = {name: values.tolist() for name, values in per_label(counts).items()}
    return {"per_label": figures} | ({"confusion": counts.tolist()} if counts.size <= MOST_COUNTS else {})
