"""The minimum over axes."""

from typing import Any, ClassVar

from core.arrays import Namespace
from core.layers.reduction.max import Max


class Min(Max):
    """The minimum over `axes`: (batch, ...) to the shape without these axes.

    The derivative is 1 for the minimum and 0 for the other elements; if n elements tie for the minimum, it is `1 / n`
    for each of them.
    """

    type: ClassVar[str] = "min"

    def extreme(self, xp: Namespace) -> Any:
        return xp.min
