"""Base class of the optimizers."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from core.arrays import Array, Namespace, blocks, overlaps
from core.registry import Registered, hyperparameter
from core.schedules.base import Schedule
from core.schedules.constant import Constant


class Step(NamedTuple):
    """A step of training: its learning rate, the schedule's factor included, and its number, counted from 1.

    `decay` is a factor of the weight decay.
    """

    learning_rate: float
    number: int
    decay: float = 1.0


class Optimizer(Registered):
    """A rule that updates parameters from their gradients. A subclass implements `move`."""

    kind: ClassVar[str] = "optimizer"

    lr: float = hyperparameter(default=0.1, doc="Learning rate before the schedule's factor.", gt=0)
    schedule: Schedule = hyperparameter(default=Constant(), doc="How the learning rate changes over the job.")

    # Decoupled weight decay: before the move, a step multiplies each weight by `1 - learning rate * weight_decay`. An
    # optimizer that supports it declares a hyperparameter of this name. Coupled decay is the L2 penalty, whose gradient
    # is part of the gradients.
    weight_decay = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the vectors kept between steps: each as long as the parameters, and zero at first."""
        return ()

    def learning_rate(self, step: int, total_steps: int, epoch_steps: int) -> float:
        """Return the learning rate at `step`, counted from 0, of `total_steps`. An epoch has `epoch_steps`."""
        return self.lr * self.schedule.factor(step, total_steps, epoch_steps)

    def update(
        self,
        xp: Namespace,
        parameters: Array,
        gradients: Array,
        state: Mapping[str, Array],
        scratch: Array,
        step: Step,
        penalized: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take one step in place: `parameters` and the slots in `state` change, `gradients` is only read.

        All are vectors of one length and dtype: the whole flat vector or any slice of it, whose bounds do not change
        the result. `scratch` has the same dtype and at least min(their length, `core.arrays.BLOCK`) elements.
        `penalized` lists the ranges [start, stop) of these vectors that weight decay applies to.
        """
        for block in blocks(parameters.size):
            if self.weight_decay:
                self._decay(xp, [parameters[start:stop] for start, stop in overlaps(penalized, block)], step)
            weights = parameters[block]
            slots = {name: slot[block] for name, slot in state.items()}
            self.move(xp, weights, gradients[block], slots, scratch[: weights.size], step)

    def _decay(self, xp: Namespace, ranges: Sequence[Array], step: Step) -> None:
        kept = 1 - step.learning_rate * self.weight_decay * step.decay
        for weights in ranges:
            xp.multiply(weights, kept, out=weights)

    def move(
        self, xp: Namespace, weights: Array, gradient: Array, state: Mapping[str, Array], change: Array, step: Step
    ) -> None:
        """Take the step on a block that fits into the cache. All arrays have its length; `change` is scratch memory.

        Each operation must be elementwise and rounded by itself, so that the result does not depend on the block.
        """
        raise NotImplementedError
