"""PyTorch's step as it is by default, and with deterministic algorithms. Its batches are ready."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import torch

from benchmarks.common.team import Share
from benchmarks.common.workload import Workload
from benchmarks.distributed.workload import batches, rows
from benchmarks.engine.pytorch import criterion_of, model_of, optimizer_of


class TorchStep:
    """A step of eager PyTorch with the fused optimizer."""

    def __init__(
        self, _rank: int, _members: int, _share: Share, workload: Workload, weights: list[np.ndarray], algorithms: str
    ) -> None:
        torch.set_num_threads(workload.threads)
        torch.use_deterministic_algorithms(algorithms == "deterministic")
        self._model, self._criterion = model_of(workload, weights), criterion_of(workload)
        self._optimizer = optimizer_of(workload, self._model)
        features, labels = rows(workload)
        self._batches = cycle(
            [(torch.from_numpy(features[part]), torch.from_numpy(labels[part])) for part in batches(workload)]
        )
        self._steps, self._loss = 0, torch.zeros(())

    def __call__(self) -> None:
        self._steps += 1
        features, labels = next(self._batches)
        self._optimizer.zero_grad()
        self._loss = self._criterion(self._model(features), labels)
        self._loss.backward()
        self._optimizer.step()

    def result(self) -> dict[str, Any]:
        return {"steps": self._steps, "loss": self._loss.item()}

    def close(self) -> None:
        """Nothing is left to close."""
