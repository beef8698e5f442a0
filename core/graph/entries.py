"""Entries of a model: its layers and blocks, as a job lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from core.graph.block import Block, Composite
from core.graph.graph import GraphError
from core.graph.multipliers import Multipliers, multipliers_from_spec
from core.registry import Nested, from_spec, registered, to_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.graph.node import Layer, Node

#: fields of an entry that say where its node is placed
PLACE = frozenset({"name", "inputs", "share", "multipliers"})


class ModelError(GraphError):
    """An invalid model: `entry` is the position in the list `of`, `field` the field of that entry, None for all of it.

    The list is "layers" or "heads". The field of an entry within a block or a head begins with its place there, as in
    "layers.0.inputs".
    """

    def __init__(
        self, message: str, entry: int = 0, field: str | None = None, of: str = "layers", axes: int | None = None
    ) -> None:
        super().__init__(message, field=field, axes=axes)
        self.entry, self.of = entry, of

    @property
    def path(self) -> str:
        """Dotted path of the place in the model, such as "layers.3.inputs"."""
        place = f"{self.of}.{self.entry}"
        return place if self.field is None else f"{place}.{self.field}"


@dataclass(frozen=True)
class Entry(Nested):
    """An entry of a model's list: a node or a block, and its place in the graph.

    `name`: name by which later entries read it. `inputs`: names of earlier entries, or "features", that it reads; by
    default the previous entry. `share`: name of the earlier layer whose parameters it uses.
    `multipliers`: factors of the learning rate and the decay, by name of the parameter, as in {"bias": ...}; those of a
    block are for all of its layers that have such a parameter, and no multipliers of their own for it.
    """

    words: ClassVar[str] = "a layer or a block"

    node: Node | Composite
    name: str | None = None
    inputs: tuple[str, ...] | None = None
    share: str | None = None
    multipliers: Mapping[str, Multipliers] | None = None

    def size(self) -> int:
        """Return the number of layers that it stands for: 1, if it is none of a block."""
        return self.node.size() if isinstance(self.node, Composite) else 1

    def depth(self) -> int:
        """Return how deep blocks are nested in it; 0 for a layer."""
        return self.node.depth() if isinstance(self.node, Block) else 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without a place that is the default."""
        place: dict[str, Any] = {
            "name": self.name,
            "inputs": self.inputs and list(self.inputs),
            "share": self.share,
            "multipliers": self.multipliers and {name: vars(each) for name, each in self.multipliers.items()},
        }
        return to_spec(cast("Layer", self.node)) | {name: value for name, value in place.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build an entry from its JSON form: the spec of a layer or block, with the other fields of `Entry` beside.

        Raises what `from_spec` raises, TypeError for inputs that are not a list, and what `multipliers_from_spec`
        raises.
        """
        inputs = value.get("inputs")
        if isinstance(inputs, str):
            raise TypeError(f"{value.get('type')}.inputs must be a list of names, not {inputs!r}")
        multipliers = value.get("multipliers")
        kind = "block" if value.get("type") in registered("block") else "layer"
        thing = {key: each for key, each in value.items() if key not in PLACE}
        return cls(
            cast("Node | Composite", from_spec(kind, thing)),
            name=value.get("name"),
            inputs=None if inputs is None else tuple(inputs),
            share=value.get("share"),
            multipliers=None
            if multipliers is None
            else multipliers_from_spec(f"{value.get('type')}.multipliers", multipliers),
        )


@dataclass(frozen=True)
class Head(Nested):
    """An auxiliary classifier: layers from a value inside the model to scores like its own, for training only.

    `reads`: name of the layer or block that it reads. `weight`: factor of its loss, which is added to the model's.
    `name`: by default its position, as in "head_0".
    """

    reads: str
    layers: tuple[Entry, ...]
    weight: float = 0.3
    name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without a name that is the default."""
        named = {} if self.name is None else {"name": self.name}
        return {"reads": self.reads, "weight": self.weight, "layers": [each.to_json() for each in self.layers]} | named

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build a head from its JSON form; raises what `Entry.from_json` raises."""
        return cls(**{**value, "layers": tuple(map(Entry.from_json, value["layers"]))})


def entry_from_spec(spec: Mapping[str, Any]) -> Entry:
    """Build an entry from its JSON form; see `Entry.from_json`."""
    return Entry.from_json(spec)
