"""Stochastic gradient descent, plain, with momentum, or with Nesterov's."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from core.arrays import Array, Namespace, blocks
from core.kernels.fused import run_fused
from core.optimizers.base import Optimizer
from core.registry import hyperparameter


def move_with_momentum(
    weights: Array, gradients: Array, velocities: Array, momentum: np.floating[Any], learning_rate: np.floating[Any]
) -> None:
    """Do what `SGD.update` does with momentum, as one loop; see `core.kernels.fused`."""
    for i in range(weights.size):
        velocity = momentum * velocities[i] + gradients[i]
        velocities[i] = velocity
        weights[i] -= learning_rate * velocity


class SGD(Optimizer):
    """`v = momentum v + g; w = w - lr v`; without momentum, which is plain gradient descent, `w = w - lr g`.

    With `nesterov` the step looks ahead along the velocity: `w = w - lr (g + momentum v)`. As in PyTorch; Caffe
    multiplies the learning rate into `v`, which is the same while the rate stays the same.

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013.
    """

    type: ClassVar[str] = "sgd"

    momentum: float = hyperparameter(default=0.0, doc="How much of the last step is kept; 0 for none.", ge=0, lt=1)
    nesterov: bool = hyperparameter(default=False, doc="Whether the step looks ahead along the velocity.")

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("velocity",) if self.momentum > 0 else ()

    def update(
        self,
        xp: Namespace,
        parameters: Array,
        gradients: Array,
        state: Mapping[str, Array],
        scratch: Array,
        *,
        learning_rate: float,
        step: int,
        penalized: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take one step in place; see `Optimizer.update`."""
        if self.momentum > 0 and not self.nesterov:
            vectors = parameters, gradients, state["velocity"]
            if run_fused(xp, move_with_momentum, vectors, (self.momentum, learning_rate)):
                return
        for block in blocks(parameters.size):
            weights, direction = parameters[block], gradients[block]
            change = scratch[: weights.size]
            if self.momentum > 0:
                gradient, direction = direction, state["velocity"][block]
                xp.multiply(direction, self.momentum, out=direction)
                xp.add(direction, gradient, out=direction)
                if self.nesterov:
                    xp.multiply(direction, self.momentum, out=change)
                    direction = xp.add(change, gradient, out=change)
            xp.multiply(direction, learning_rate, out=change)
            xp.subtract(weights, change, out=weights)
