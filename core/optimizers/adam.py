"""Adam."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from core.arrays import Array, Namespace
from core.kernels.fused import run_fused
from core.optimizers.base import Optimizer, Step
from core.registry import hyperparameter


def move_by_moments(
    weights: Array, gradients: Array, gradient_sums: Array, square_sums: Array, factors: tuple[np.floating[Any], ...]
) -> None:
    """Compute the same as `Adam.move` in one loop; see `core.kernels.fused`."""
    beta1, beta2, epsilon, rate = factors
    for i in range(weights.size):
        gradient = gradients[i]
        gradient_sum = beta1 * gradient_sums[i] + gradient
        square_sum = beta2 * square_sums[i] + gradient * gradient
        gradient_sums[i], square_sums[i] = gradient_sum, square_sum
        weights[i] -= rate * (gradient_sum / (np.sqrt(square_sum) + epsilon))


class Adam(Optimizer):
    """Steps by the mean gradient over the root of the mean square, both exponential moving averages.

    `m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²`, then, at step t,
    `w = w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)`, as in PyTorch.

    The slots hold `m / (1 - beta1)` and `v / (1 - beta2)`, sums in which each gradient enters with a factor of 1; the
    missing factors and the bias correction are part of the learning rate and of epsilon.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    type: ClassVar[str] = "adam"

    lr: float = hyperparameter(default=0.001, doc="Learning rate before the schedule's factor.", gt=0)
    beta1: float = hyperparameter(default=0.9, doc="Decay of the mean gradient per step.", ge=0, lt=1)
    beta2: float = hyperparameter(default=0.999, doc="Decay of the mean square per step.", ge=0, lt=1)
    # Above 0 in float32 too: a parameter that never had a gradient must not become 0 / 0.
    epsilon: float = hyperparameter(default=1e-8, doc="Added to the root of the mean square.", ge=1e-30, le=1)

    @property
    def slots(self) -> tuple[str, ...]:
        """Decaying sums of the gradients and of their squares."""
        return ("gradient_sum", "square_sum")

    def move(
        self, xp: Namespace, weights: Array, gradient: Array, state: Mapping[str, Array], change: Array, step: Step
    ) -> None:
        """Take the step on a block; see `Optimizer.move`."""
        # sqrt(v / (1 - beta2^t)) = spread * sqrt(square_sum)
        spread = sqrt((1 - self.beta2) / (1 - self.beta2**step.number))
        rate = step.learning_rate * (1 - self.beta1) / (1 - self.beta1**step.number) / spread
        epsilon = self.epsilon / spread
        gradient_sum, square_sum = state["gradient_sum"], state["square_sum"]
        vectors = weights, gradient, gradient_sum, square_sum
        if run_fused(xp, move_by_moments, vectors, (self.beta1, self.beta2, epsilon, rate)):
            return
        xp.multiply(gradient_sum, self.beta1, out=gradient_sum)
        xp.add(gradient_sum, gradient, out=gradient_sum)
        xp.multiply(gradient, gradient, out=change)
        xp.multiply(square_sum, self.beta2, out=square_sum)
        xp.add(square_sum, change, out=square_sum)
        xp.sqrt(square_sum, out=change)
        xp.add(change, epsilon, out=change)
        xp.divide(gradient_sum, change, out=change)
        xp.multiply(change, rate, out=change)
        xp.subtract(weights, change, out=weights)
