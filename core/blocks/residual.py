"""Residual blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from core.graph.block import INPUT, Block, Chain
from core.graph.entries import Entry
from core.layers.arithmetic.add import Add
from core.registry import hyperparameter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Residual(Block):
    """`F(x) + S(x)`: layers F whose output is added to the input, or to the output of a shortcut S.

    Both must have the same shape. A ReLU after the sum, as in the first residual networks, is a layer after the block.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016.
    """

    type: ClassVar[str] = "residual"

    layers: tuple[Entry, ...] = hyperparameter(doc="The layers and blocks of F.")
    shortcut: tuple[Entry, ...] = hyperparameter(default=(), doc="The layers and blocks of S; by default S(x) = x.")

    def entries(self) -> Sequence[Entry]:
        entries, shortcut = [Entry(Chain(self.layers), name="layers")], INPUT
        if self.shortcut:
            shortcut = "shortcut"
            entries.append(Entry(Chain(self.shortcut, shortcut), name=shortcut, inputs=(INPUT,)))
        return [*entries, Entry(Add(), name="sum", inputs=("layers", shortcut))]
