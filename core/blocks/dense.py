"""Densely connected blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.block import INPUT, Block, Chain
from core.graph.entries import Entry
from core.layers.shape.concat import Concat
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Dense(Block):
    """The same layers several times, where each time reads the block's input and the outputs of all times before.

    What it reads is concatenated along the last axis, and so is the output of the block: its input and the outputs of
    all times. Each time has parameters of its own. A fully connected layer is `linear`.

    Source: Huang et al., "Densely connected convolutional networks", CVPR 2017.
    """

    type: ClassVar[str] = "dense"

    layers: tuple[Entry, ...] = hyperparameter(doc="The layers and blocks of one time.")
    times: int = hyperparameter(doc="How often they are repeated.", ge=1, le=1024)

    def entries(self) -> Sequence[Entry]:
        entries, before = [], INPUT
        for time in range(self.times):
            joined = f"{time}_joined"
            entries += [
                Entry(Chain(self.layers), name=str(time), inputs=(before,)),
                Entry(Concat(), name=joined, inputs=(before, str(time))),
            ]
            before = joined
        return entries

    def size(self) -> int:
        return self.times * (Chain(self.layers).size() + 1)
