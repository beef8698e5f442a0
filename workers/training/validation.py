"""What follows from the validation metrics after an epoch: the best parameters so far, and early stopping."""

from __future__ import annotations

from workers.data.rows import Batches
from workers.exchange.vectors import Vector
from workers.record.checkpoint import BestSoFar, PatienceSoFar, Snapshot
from workers.record.selection import Best, Patience
from workers.training.evaluation import DistributedEvaluation


class Validation:
    """Evaluates the parameters after each epoch.

    With `best`, it keeps the best parameters, and with `patience` it decides when training stops early.
    """

    def __init__(self, evaluation: DistributedEvaluation, best: Best | None, patience: Patience | None) -> None:
        self._evaluation, self._best, self._patience = evaluation, best, patience

    def run(self, step: int, batches: Batches, parameters: Vector) -> dict[str, float]:
        """Compute the metrics of the parameters after a step. Raises `PeerSilentError`."""
        metrics = self._evaluation.run(step, batches)
        if self._best is not None:
            self._best.offer(metrics[self._best.metric], step, parameters)
        if self._patience is not None:
            self._patience.offer(metrics[self._patience.metric])
        return metrics

    @property
    def stops_training(self) -> bool:
        """Whether training stops early."""
        return self._patience is not None and self._patience.exhausted

    def kept(self, step: int, parameters: Vector) -> tuple[int, Vector]:
        """The parameters that are kept at the end, and the step after which they were reached.

        They are the best ones if there are such, otherwise `parameters`, those after the last `step`.
        """
        best = self._best
        return (step, parameters) if best is None or best.value is None else (best.step, best.parameters)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot. The best parameters count only if the same metric chose them."""
        if self._best is not None and snapshot.best is not None and snapshot.best.metric == self._best.metric:
            self._best.offer(snapshot.best.value, snapshot.best.step, snapshot.best.parameters)
        if self._patience is not None and snapshot.patience is not None:
            self._patience.value = snapshot.patience.value
            self._patience.stale_epochs = snapshot.patience.stale_epochs

    def best_so_far(self) -> BestSoFar | None:
        """A copy of the best parameters, for a checkpoint."""
        best = self._best
        if best is None or best.value is None:
            return None
        return BestSoFar(best.metric, best.value, best.step, best.parameters.copy())

    def patience_so_far(self) -> PatienceSoFar | None:
        """The state of early stopping, for a checkpoint."""
        patience = self._patience
        return PatienceSoFar(patience.value, patience.stale_epochs) if patience is not None else None
