"""Base class of the optimizers."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from core.arrays import Array, Namespace
from core.registry import Registered, hyperparameter
from core.schedules.base import Schedule
from core.schedules.constant import Constant


class Optimizer(Registered):
    """A rule that moves parameters by their gradients."""

    kind: ClassVar[str] = "optimizer"

    lr: float = hyperparameter(default=0.1, doc="Learning rate before the schedule's factor.", gt=0)
    schedule: Schedule = hyperparameter(default=Constant(), doc="How the learning rate changes over the job.")

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the vectors kept between steps: each as long as the parameters, and zero at first."""
        return ()

    def learning_rate(self, step: int, total_steps: int) -> float:
        """Return the learning rate at `step`, counted from 0, of `total_steps`."""
        return self.lr * self.schedule.factor(step, total_steps)

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
        """Take one step in place: `parameters` and the slots in `state` change, `gradients` is only read.

        All are vectors of one length and dtype: the whole flat vector or any slice of it. `scratch` has the same dtype
        and at least min(their length, `core.arrays.BLOCK`) elements. `step` counts from 1 over the whole job.
        `penalized` lists the ranges [start, stop) of these vectors that weight decay counts.

        Where a slice begins and ends must not change a bit, so an implementation is elementwise, each operation rounded
        by itself; it walks the vectors in blocks, which then stay in the cache from one operation to the next.
        """
        raise NotImplementedError
