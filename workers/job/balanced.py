"""Losses whose class weights are `"balanced"`: numbers that follow from the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.registry import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from core import Loss

BALANCED = "balanced"


@dataclass(frozen=True)
class BalancedLoss:
    """A loss without its class weights; `fields` are those of its class, with `BALANCED` for the weights.

    Raises what the class raises for the other fields.
    """

    cls: type[Loss]
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.with_weights(())

    def with_weights(self, weights: Sequence[float]) -> Loss:
        """The loss with these class weights. Those of losses within it are the same."""
        return self.cls(**self._fields(tuple(weights), lambda loss: loss.with_weights(weights)))

    def to_spec(self) -> dict[str, Any]:
        """The JSON form."""
        fields = self._fields(BALANCED, BalancedLoss.to_spec)
        return {"type": self.cls.type} | {name: to_json(value) for name, value in fields.items()}

    def _fields(self, weights: object, build: Callable[[BalancedLoss], object]) -> dict[str, Any]:
        def built(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(map(built, value))
            return build(value) if isinstance(value, BalancedLoss) else value

        return {name: weights if value == BALANCED else built(value) for name, value in self.fields.items()}


def is_balanced(fields: Mapping[str, Any]) -> bool:
    """Whether these fields of a loss, or of a loss within it, have no class weights yet."""
    values = [each for value in fields.values() for each in (value if isinstance(value, list) else [value])]
    return any(value == BALANCED or isinstance(value, BalancedLoss) for value in values)


def balanced_weights(labels: NDArray[np.int64], classes: int) -> list[float]:
    """`rows / (classes * rows of the class)` for each class; infinite for a class without rows."""
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(divide="ignore"):
        weights: list[float] = (len(labels) / (classes * counts)).tolist()
    return weights
