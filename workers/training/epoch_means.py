"""Means of the figures of an epoch's steps over all its samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workers.exchange.vectors import ACTIVE, LOSS
from workers.job.metrics import epoch_mean
from workers.job.tallies import Tallies
from workers.training.step import StepResult


class EpochMeans:
    """Adds up what the steps of an epoch count, step by step.

    `sums` are those of the epoch's steps before, as a checkpoint has them. They are None if they are not known: then
    that epoch has no means.
    """

    def __init__(self, tallies: Tallies, sums: Sequence[float] | None) -> None:
        self._tallies = tallies
        # The rows, the penalty times the rows, and the columns of the table of shards.
        self._sums = None if sums is None else np.array(sums or self._zeros)

    @property
    def _zeros(self) -> list[float]:
        return [0.0] * (2 + self._tallies.stop)

    @property
    def sums(self) -> list[float] | None:
        """The sums so far."""
        return None if self._sums is None else self._sums.tolist()

    def add(self, result: StepResult) -> None:
        """Add a step."""
        if self._sums is None:
            return
        self._sums[:2] += result.rows, result.penalty * result.rows
        self._sums[2:] = self._tallies.combine(np.stack([self._sums[2:], np.array(result.sums)]))

    def take(self) -> dict[str, float]:
        """Return the means by name of their series, and begin the next epoch."""
        sums, self._sums = self._sums, np.array(self._zeros)
        if sums is None:
            return {}
        rows, (penalty, *_), columns = int(sums[0]), sums[1:] / sums[0], sums[2:]
        data = float(columns[LOSS] / rows)
        figures = {
            "loss": data + float(penalty),
            "data_loss": data,
            "reg_loss": float(penalty),
            **self._tallies.values(columns, rows),
            "active_fraction": float(columns[ACTIVE] / rows),
        }
        return {epoch_mean(f"train/{name}"): value for name, value in figures.items()}
