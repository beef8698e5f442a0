"""Repeated layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.block import Block, Chain
from core.graph.entries import Entry
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Repeat(Block):
    """The same layers several times, one after another. Each time has parameters of its own.

    The layers of a time read the output of the time before, and each other by their names.
    """

    type: ClassVar[str] = "repeat"

    layers: tuple[Entry, ...] = hyperparameter(doc="The layers and blocks of one time.")
    times: int = hyperparameter(doc="How often they are repeated.", ge=1, le=1024)

    def entries(self) -> Sequence[Entry]:
        return [Entry(Chain(self.layers), name=str(time)) for time in range(self.times)]

    def size(self) -> int:
        return self.times * Chain(self.layers).size()
