"""Blocks: entries of a model that stand for several layers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from core.registry import Registered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.graph.entries import Entry
    from core.graph.node import Node

#: name by which the entries of a block read its input
INPUT = "input"


def readers(entries: Sequence[Entry], start: str) -> Iterator[Node | Composite]:
    """Yield what reads the value that entries read in the beginning, `start`."""
    for index, entry in enumerate(entries):
        if start in (entry.inputs or (() if index else (start,))):
            yield entry.node


class Composite:
    """Something that stands for several entries, with one input and one output."""

    def entries(self) -> Sequence[Entry]:
        """Return the entries that it stands for, which may be composite themselves.

        By default each reads the one before it, and the first reads the input, which all can read as `INPUT`. They read
        each other by their names, and nothing else. The value of the last is the output.
        """
        raise NotImplementedError

    @property
    def images(self) -> bool:
        """Whether it only accepts images: whether one of the layers that read its input does."""
        return any(node.images for node in readers(self.entries(), INPUT))

    def size(self) -> int:
        """Return the number of layers that it stands for in the end."""
        return sum(entry.size() for entry in self.entries())


@dataclass(frozen=True)
class Chain(Composite):
    """The layers of the field `field` of a block."""

    layers: tuple[Entry, ...]
    field: str = "layers"

    def entries(self) -> Sequence[Entry]:
        """Return the layers."""
        return self.layers


class Block(Registered, Composite):
    """A composite that the spec of a model can name."""

    kind: ClassVar[str] = "block"

    def __post_init__(self) -> None:
        """Check the fields, and that lists of layers that are required have some."""
        super().__post_init__()
        for field in dataclasses.fields(self):
            if field.default is dataclasses.MISSING and getattr(self, field.name) == ():
                raise ValueError(f"{self.type}.{field.name} must have at least one layer")

    def depth(self) -> int:
        """Return how deep blocks are nested: 1 for a block without blocks in it."""
        lists = (value for field in dataclasses.fields(self) if isinstance(value := getattr(self, field.name), tuple))
        return 1 + max((entry.depth() for entries in lists for entry in entries), default=0)
