"""The metrics of the parameters that are kept, on all validation rows, at the end of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.training.evaluation import ShardEvaluation

if TYPE_CHECKING:
    from workers.data.rows import Batches
    from workers.data.splitting import Rows
    from workers.exchange.vectors import Vector
    from workers.job.computation import Computation
    from workers.training.runtime import Runtime

# Predictions, all outputs counted, that are kept in memory for the metrics that depend on the order of all rows. With
# more, these metrics are left out.
MOST_RANKED = 2**28


def evaluate_kept(
    computation: Computation, runtime: Runtime, parameters: Vector, batches: Batches, rows: Rows
) -> dict[str, float]:
    """Compute all metrics of the job on `rows`, by name; empty where there are none.

    One worker alone does this. It computes the same shards as all workers do after an epoch, so the bits are the same.
    """
    if not len(rows):
        return {}
    metrics = computation.metrics
    evaluation = ShardEvaluation(computation, runtime, parameters, rows, range(computation.shards))
    ranked = bool(metrics.ranking) and len(rows) * metrics.outputs <= MOST_RANKED
    predictions = np.empty((len(rows), metrics.outputs), np.float32) if ranked else None
    evaluation.run(batches, predictions)
    values = evaluation.values()
    if predictions is not None:
        truth = batches.truth[rows]
        values |= {f"val/{metric.type}": metric.value(predictions, truth) for metric in metrics.ranking}
    return values
