"""The best parameters so far, and early stopping; both depend only on the validation metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.job.metrics import HIGHER_IS_BETTER


def is_better(metric: str, value: float, than: float | None, by: float = 0.0) -> bool:
    """Whether a value of a metric is better than another by more than `by`; a value that is not finite never is."""
    if not math.isfinite(value) or than is None:
        return math.isfinite(value)
    return value > than + by if metric in HIGHER_IS_BETTER else value < than - by


@dataclass
class Best:
    """The parameters with the best value of a metric so far; `parameters` is a vector that belongs to this object."""

    metric: str
    parameters: NDArray[Any]
    value: float | None = None
    step: int = 0

    def offer(self, value: float, step: int, parameters: NDArray[Any]) -> None:
        """Copy the parameters if their value is better; of equal values the first is kept."""
        if is_better(self.metric, value, self.value):
            self.value, self.step = value, step
            np.copyto(self.parameters, parameters)


@dataclass
class Patience:
    """Counts the epochs since a metric last improved by more than `min_delta`; stops after `patience` of them."""

    metric: str
    patience: int
    min_delta: float
    value: float | None = None
    stale_epochs: int = 0

    def offer(self, value: float) -> None:
        """Record the value after an epoch."""
        if is_better(self.metric, value, self.value, self.min_delta):
            self.value, self.stale_epochs = value, 0
        else:
            self.stale_epochs += 1

    @property
    def exhausted(self) -> bool:
        """Whether training should stop."""
        return self.stale_epochs >= self.patience
