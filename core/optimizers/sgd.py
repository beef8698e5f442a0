"""Stochastic gradient descent, plain, with momentum, or with Nesterov's momentum."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from core.arrays import Array, Namespace
from core.kernels.fused import run_fused
from core.optimizers.base import Optimizer, Step
from core.registry import hyperparameter


def move_with_momentum(
    weights: Array, gradients: Array, velocities: Array, factors: tuple[np.floating[Any], ...]
) -> None:
    """Compute the same as `SGD.move` with momentum in one loop; see `core.kernels.fused`."""
    momentum, learning_rate = factors
    for i in range(weights.size):
        velocity = momentum * velocities[i] + gradients[i]
        velocities[i] = velocity
        weights[i] -= learning_rate * velocity


class SGD(Optimizer):
    """`v = momentum v + g; w = w - lr v`; without momentum, which is plain gradient descent, `w = w - lr g`.

    With `nesterov`, which needs a momentum, `w = w - lr (g + momentum v)`. As in PyTorch; Caffe multiplies the learning
    rate into `v`, which is the same as long as the rate is constant.

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013.
    """

    type: ClassVar[str] = "sgd"

    momentum: float = hyperparameter(default=0.0, doc="Decay of the velocity per step; 0 for none.", ge=0, lt=1)
    nesterov: bool = hyperparameter(default=False, doc="Whether to use Nesterov's momentum.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError(
                "sgd.nesterov needs sgd.momentum greater than 0, such as 0.9; without momentum, leave it out"
            )

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("velocity",) if self.momentum > 0 else ()

    def move(
        self, xp: Namespace, weights: Array, gradient: Array, state: Mapping[str, Array], change: Array, step: Step
    ) -> None:
        """Take the step on a block; see `Optimizer.move`."""
        direction = gradient
        if self.momentum > 0:
            direction = state["velocity"]
            vectors, factors = (weights, gradient, direction), (self.momentum, step.learning_rate)
            if not self.nesterov and run_fused(xp, move_with_momentum, vectors, factors):
                return
            xp.multiply(direction, self.momentum, out=direction)
            xp.add(direction, gradient, out=direction)
            if self.nesterov:
                xp.multiply(direction, self.momentum, out=change)
                direction = xp.add(change, gradient, out=change)
        xp.multiply(direction, step.learning_rate, out=change)
        xp.subtract(weights, change, out=weights)
