"""What is measured: networks, losses, optimizers and thread counts, and the data that every subject gets."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

LEARNING_RATE, MOMENTUM = 1e-3, 0.9

NETWORKS = (
    ((784, 10), 128),
    ((784, 128, 10), 64),
    ((784, 512, 512, 10), 128),
    ((3072, 10), 256),
    ((3072, 1024, 1024, 1024, 10), 256),
    ((4096, 4096, 4096), 16),
    ((784, 2048, 2048, 10), 1024),
)


@dataclass(frozen=True)
class Workload:
    """A training step: fully connected layers of these widths with ReLU between, float32."""

    widths: tuple[int, ...]
    batch: int
    loss: str  # "softmax", or "hinge" of Weston and Watkins
    optimizer: str  # "sgd" with momentum, or "adam"
    threads: int

    @property
    def features(self) -> int:
        return self.widths[0]

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The specs of the engine's layers."""
        linear = [{"type": "linear", "units": units} for units in self.widths[1:]]
        return [each for layer in linear for each in (layer, {"type": "relu"})][:-1]

    @property
    def network(self) -> str:
        return f"{'-'.join(map(str, self.widths))} at {self.batch}"

    @property
    def name(self) -> str:
        return f"{self.network}, {self.loss}, {self.optimizer}, {self.threads} thread{'s' * (self.threads > 1)}"

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a step's matrix products: forward and both gradients, without the gradient of the data."""
        sizes = [inputs * outputs for inputs, outputs in pairwise(self.widths)]
        return self.batch * (3 * sum(sizes) - sizes[0])

    @property
    def loss_scale(self) -> float:
        """The factor from the mean of `core`'s losses to PyTorch's loss, which divides the hinge by the classes."""
        return 1 / self.widths[-1] if self.loss == "hinge" else 1.0

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        features = random.standard_normal((self.batch, self.widths[0]), dtype=np.float32)
        return features, random.integers(0, self.widths[-1], self.batch)


def workloads() -> Iterator[Workload]:
    for threads, (widths, batch), loss, optimizer in product((1, 2), NETWORKS, ("softmax", "hinge"), ("sgd", "adam")):
        yield Workload(widths, batch, loss, optimizer, threads)
