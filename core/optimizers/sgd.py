"""Stochastic gradient descent with momentum."""

from collections.abc import Mapping
from typing import ClassVar

from core.arrays import Array, Namespace, blocks
from core.optimizers import Optimizer
from core.registry import hyperparameter


class SGD(Optimizer):
    """`v = momentum v + g; w = w - lr v`, as in Caffe and PyTorch; without momentum, `w = w - lr g`.

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    type: ClassVar[str] = "sgd"

    momentum: float = hyperparameter(default=0.0, doc="How much of the last step is kept; 0 for none.", ge=0, lt=1)

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("velocity",) if self.momentum > 0 else ()

    def update(
        self, xp: Namespace, parameters: Array, gradients: Array, state: Mapping[str, Array], learning_rate: float
    ) -> None:
        """Take one step in place; see `Optimizer.update`."""
        for block in blocks(parameters.size):
            step = gradient = gradients[block]
            if self.momentum > 0:
                step = state["velocity"][block]
                xp.multiply(step, self.momentum, out=step)
                xp.add(step, gradient, out=step)
            xp.multiply(step, learning_rate, out=gradient)
            xp.subtract(parameters[block], gradient, out=parameters[block])
